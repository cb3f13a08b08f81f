"""The small encoder that stands for a model where gradients are checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoConfig

from mtlplug.doctor.small import LAYERS, WIDTH, save_small, small_config
from mtlplug.model.encoder import Encoder
from mtlplug.model.roads import PACKED_TYPES
from tests.model.small_encoders import FAMILIES, PADDED_FAMILIES


@pytest.mark.parametrize("model_type", sorted({*FAMILIES, *PADDED_FAMILIES}))
def test_every_family_can_be_cut(model_type: str, tmp_path: Path) -> None:
    """It keeps family, vocabulary and length, has two narrow layers and no dropout."""
    assert set(FAMILIES) == PACKED_TYPES
    config = AutoConfig.for_model(model_type)
    said = save_small(config, tmp_path)
    assert said == f"a {model_type} of {LAYERS} layers, {WIDTH} wide, with random weights"
    encoder = Encoder.from_pretrained(str(tmp_path), road="padded")
    small = encoder.model.config
    assert (small.model_type, small.vocab_size) == (model_type, config.vocab_size)
    assert small.max_position_embeddings == config.max_position_embeddings
    assert (small.num_hidden_layers, encoder.hidden_size) == (LAYERS, WIDTH)
    assert not [name for name, value in small.to_dict().items() if "drop" in name and value]


def test_the_configuration_given_stays(tmp_path: Path) -> None:
    """Cutting makes a new configuration."""
    config = AutoConfig.for_model("bert")
    before = config.to_dict()
    assert small_config(config).hidden_size == WIDTH
    assert config.to_dict() == before


def test_a_family_that_cannot_be_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A BERT with its vocabulary stands in, which is said."""

    def refuse(config: object) -> object:
        if getattr(config, "model_type", "") != "bert":
            raise ValueError("no such sizes")
        return small_config(config)  # type: ignore[arg-type]

    monkeypatch.setattr("mtlplug.doctor.small.small_config", refuse)
    said = save_small(AutoConfig.for_model("mpnet", vocab_size=77), tmp_path)
    assert said.startswith("a bert of 2 layers")
    assert said.endswith("(no mpnet so small)")
    assert AutoConfig.from_pretrained(tmp_path).vocab_size == 77
