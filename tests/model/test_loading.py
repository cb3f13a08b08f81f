"""What is known of an encoder before it is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModel

from mtlplug.errors import MtlplugError
from mtlplug.model.loading import load_tokenizer, position_limit, position_table
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


def test_a_folder_without_tokenizer(tmp_path: Path) -> None:
    """Transformers makes one that knows no word, with which a run would train on nothing."""
    tiny("bert").save_pretrained(tmp_path)
    with pytest.raises(
        MtlplugError, match=r"has no tokenizer that knows a word; put tokenizer\.json"
    ):
        load_tokenizer(str(tmp_path))
