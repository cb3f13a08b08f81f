"""A small encoder of the same family: what a check of gradients can afford to train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModel

from mtlplug.model.loading import LOAD_ERRORS, quiet, without_pooler

if TYPE_CHECKING:
    from transformers import PretrainedConfig

LAYERS, WIDTH, HEADS = 2, 32, 4
SIZES = {
    "num_hidden_layers": LAYERS,
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "head_dim": WIDTH // HEADS,
    "intermediate_size": 2 * WIDTH,
    "embedding_size": WIDTH // 2,
}
"""By the names transformers gives them in every family (`attribute_map`)."""


def save_small(config: PretrainedConfig, folder: Path) -> str:
    """Save an encoder of two narrow layers and random weights, without dropout; says what it is.

    It keeps the family, the vocabulary and the positions of `config`, so that it reads the same
    features. Where the family cannot be cut, a BERT stands in for it.
    """
    model_type = config.model_type
    try:
        _save(small_config(config), folder)
    except (*LOAD_ERRORS, TypeError, AttributeError, KeyError):
        stand_in = AutoConfig.for_model(
            "bert",
            vocab_size=config.vocab_size,
            max_position_embeddings=config.max_position_embeddings,
        )
        _save(small_config(stand_in), folder)
        model_type = "bert"
    kind = f"a {model_type} of {LAYERS} layers, {WIDTH} wide, with random weights"
    return kind if model_type == config.model_type else f"{kind} (no {config.model_type} so small)"


def small_config(config: PretrainedConfig) -> PretrainedConfig:
    """The configuration of a small encoder of a family, without dropout."""
    values: dict[str, Any] = config.to_dict()
    for name, size in SIZES.items():
        name = config.attribute_map.get(name, name)
        if values.get(name) is not None:
            values[name] = size
    for name, value in values.items():
        if "drop" in name and isinstance(value, float):
            values[name] = 0.0
        # One entry for each layer, for example which ones have a sliding window.
        if isinstance(value, list) and len(value) == config.num_hidden_layers:
            values[name] = value[:LAYERS]
    return type(config).from_dict(values)


def _save(config: PretrainedConfig, folder: Path) -> None:
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModel.from_config(
            config, trust_remote_code=False, dtype=torch.float32, **without_pooler(config)
        )
        model.save_pretrained(folder)
