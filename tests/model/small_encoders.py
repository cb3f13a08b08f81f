"""Small encoders of every family, and how they are compared with transformers' own forward."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedModel

from mtlplug.batching.stream import TokenStream
from mtlplug.model.encoder import Encoder
from mtlplug.model.loading import without_pooler
from mtlplug.model.roads import INTERFACE_TYPES

VOCABULARY = 99
LENGTHS = (7, 1, 3, 20, 3, 12, 1, 3, 12, 31)
SORTED = tuple(sorted(LENGTHS))

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
    # Wider than usual, so that what a token attends to shows in its hidden state.
    "initializer_range": 0.1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
ROBERTA = {"type_vocab_size": 1, "pad_token_id": 1}
FAMILIES: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "bert": {},
    "camembert": ROBERTA,
    "deberta": {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "type_vocab_size": 2,
    },
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 8,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "position_biased_input": False,
        "norm_rel_ebd": "layer_norm",
    },
    "distilbert": {"dropout": 0.0},
    "electra": {"embedding_size": 16},
    "modernbert": {
        "initializer_cutoff_factor": 1.0,
        "local_attention": 8,
        "global_attn_every_n_layers": 2,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "cls_token_id": 1,
        "sep_token_id": 2,
    },
    "mpnet": {"type_vocab_size": 1},
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
}
PADDED_FAMILIES: dict[str, dict[str, Any]] = {"ernie": {}, "megatron-bert": {}}
"""Families not known to pack."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "deberta, without positions": ("deberta", {"relative_attention": False, "pos_att_type": []}),
    "deberta, one kind": ("deberta", {"pos_att_type": ["c2p"]}),
    "deberta, few positions": ("deberta", {"max_relative_positions": 8}),
    "deberta-v2, own projections": ("deberta-v2", {"share_att_key": False}),
    "deberta-v2, one kind": ("deberta-v2", {"share_att_key": False, "pos_att_type": ["p2c"]}),
    "deberta-v2, without positions": (
        "deberta-v2",
        {"relative_attention": False, "norm_rel_ebd": "none"},
    ),
    "deberta-v2, every position": ("deberta-v2", {"position_buckets": -1}),
    # Here the number of a bucket exceeds the distance it stands for.
    "deberta-v2, few positions": ("deberta-v2", {"max_relative_positions": 8}),
    "deberta-v2, convolution": ("deberta-v2", {"conv_kernel_size": 3, "conv_act": "gelu"}),
    "deberta-v2, wide convolution": ("deberta-v2", {"conv_kernel_size": 7}),
}
"""What families that run on buckets differ in."""

DISTILBERT = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "attention_probs_dropout_prob": "attention_dropout",
}


def tiny(model_type: str, **options: Any) -> PreTrainedModel:
    """A small encoder with random weights."""
    torch.manual_seed(0)
    values = {**SMALL, **(FAMILIES | PADDED_FAMILIES)[model_type], **options}
    if model_type == "modernbert" and "attention_probs_dropout_prob" in options:
        values["attention_dropout"] = options["attention_probs_dropout_prob"]
    if model_type == "distilbert":
        values = {DISTILBERT.get(key, key): value for key, value in values.items()}
    config = AutoConfig.for_model(model_type, **values)
    return AutoModel.from_config(config, **without_pooler(config)).eval()


def variant(name: str, **options: Any) -> PreTrainedModel:
    """A small encoder of a family, or of a variant."""
    model_type, values = VARIANTS.get(name, (name, {}))
    return tiny(model_type, **values, **options)


def sequences(
    lengths: Sequence[int], types: int = 2, seed: int = 0
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Token ids and types of random sequences, as the feature store keeps them."""
    random = np.random.default_rng(seed)
    ids = [random.integers(5, VOCABULARY, size).astype(np.uint32) for size in lengths]
    return ids, [random.integers(0, types, size).astype(np.uint8) for size in lengths]


def inputs(model: PreTrainedModel, lengths: Sequence[int]) -> tuple[list, list]:
    """Sequences with the token types the model's family knows."""
    return sequences(lengths, getattr(model.config, "type_vocab_size", 1) or 1)


def reference(model: PreTrainedModel, ids: list, types: list, implementation: str) -> Tensor:
    """Hidden states of transformers' padded forward, sequences end to end."""
    model = model.train(model.training)
    if model.config.model_type in INTERFACE_TYPES:
        model.set_attn_implementation(implementation)
    shape = (len(ids), max(map(len, ids)))
    ids_SL = torch.full(shape, model.config.pad_token_id or 0)
    types_SL, mask_SL = torch.zeros(shape).long(), torch.zeros(shape).long()
    for row, (row_ids, row_types) in enumerate(zip(ids, types, strict=True)):
        ids_SL[row, : len(row_ids)] = torch.from_numpy(row_ids.astype(np.int64))
        types_SL[row, : len(row_ids)] = torch.from_numpy(row_types.astype(np.int64))
        mask_SL[row, : len(row_ids)] = 1
    with_types = ("albert", "bert", "deberta", "electra", "ernie", "megatron-bert")
    extra = {"token_type_ids": types_SL} if model.config.model_type in with_types else {}
    output = model(input_ids=ids_SL, attention_mask=mask_SL, **extra)
    return output.last_hidden_state[mask_SL.bool()]


def gradients(model: PreTrainedModel, hidden_TD: Tensor) -> dict[str, Tensor]:
    """Gradient of every parameter, for a loss in which every hidden value counts differently."""
    weights_TD = torch.randn(hidden_TD.shape, generator=torch.Generator().manual_seed(1))
    model.zero_grad()
    (hidden_TD.float() * weights_TD).sum().backward()
    missing = [name for name, value in model.named_parameters() if value.grad is None]
    assert not missing
    return {name: value.grad.clone() for name, value in model.named_parameters()}


def worst(model: PreTrainedModel, road: str, lengths: Sequence[int], **options: Any) -> float:
    """Largest relative difference to the padded reference, of hidden states and gradients.

    A gradient's difference is relative to its own largest value, or to a hundredth of the
    largest of all: a key's bias has none but rounding, as softmax ignores it.
    """
    ids, types = inputs(model, lengths)
    encoder = Encoder(copy.deepcopy(model), road)
    hidden_TD = encoder(TokenStream.of(ids, types))
    expected_TD = reference(model, ids, types, options.get("implementation", "sdpa"))
    found = gradients(encoder.model, hidden_TD)
    expected = gradients(model, expected_TD)
    floor = 0.01 * max(float(value.abs().max()) for value in expected.values())
    difference_TD = (hidden_TD - expected_TD).detach().abs()
    errors = [float(difference_TD.max() / expected_TD.detach().abs().max())]
    for name, value in expected.items():
        error = float((found[name] - value).abs().max())
        errors.append(error / max(float(value.abs().max()), floor))
    return max(errors)
