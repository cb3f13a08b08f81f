"""What is known of an encoder before it is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModel

from mtlplug.model.loading import position_limit, position_table
from mtlplug.model.roads import INTERFACE_TYPES
from tests.model.small_encoders import FAMILIES, PADDED_FAMILIES, tiny


@pytest.mark.parametrize("model_type", [*FAMILIES, *PADDED_FAMILIES])
@pytest.mark.parametrize("padding", [0, 1, 3, None])
def test_the_configuration_knows_the_longest_sequence(
    model_type: str, padding: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many positions as the model has; common families need not be built for it."""
    model = tiny(model_type, pad_token_id=padding)
    model.save_pretrained(tmp_path)
    if model_type in INTERFACE_TYPES:
        monkeypatch.delattr(AutoModel, "from_config")
    assert position_limit(str(tmp_path)) == position_table(model)[1]
