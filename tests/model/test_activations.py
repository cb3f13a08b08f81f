"""What an encoder keeps for the backward pass, counted."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertModel

from mtlplug.model.activations import RECOMPUTED, Activations, seconds_of_pass
from mtlplug.model.encoder import Encoder


def encoder(layers: int = 2, checkpointing: bool = False) -> Encoder:
    """A BERT of width 32."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=128, max_position_embeddings=128,
    )  # fmt: skip
    return Encoder(BertModel(config, add_pooling_layer=False), gradient_checkpointing=checkpointing)


def test_bytes_grow_with_tokens_and_layers() -> None:
    """Twice the tokens keep twice as much or a little more; so do twice the layers."""
    few, many = Activations.of(encoder(2), 128), Activations.of(encoder(4), 128)
    assert 2.0 <= few.kept([64]) / few.kept([32]) < 2.6
    assert 1.7 < many.kept([64]) / few.kept([64]) < 2.0
    assert few.kept([64, 32]) == pytest.approx(few.kept([64]) + few.kept([32]))
    assert few.kept([256]) == pytest.approx(2 * few.kept([128]))
    assert few.kept([48]) == pytest.approx((few.kept([32]) + few.kept([64])) / 2)


def test_bytes_of_a_layer() -> None:
    """A layer keeps at least what its products need: 4 D, 4 D and 2 F numbers for each token."""
    found = Activations.of(encoder(4), 128)
    one = (found.kept([64]) - Activations.of(encoder(2), 128).kept([64])) / 2
    assert 4 * 64 * (8 * 32 + 2 * 128) < one < 3 * 4 * 64 * (8 * 32 + 2 * 128)


def test_checkpointing() -> None:
    """It is counted as if it were off, and is on again; the formula has inputs and a share."""
    plain, saving = Activations.of(encoder(8), 64), encoder(8, checkpointing=True)
    found = Activations.of(saving, 64)
    assert found.bytes_X == plain.bytes_X
    assert saving.model.is_gradient_checkpointing
    assert found.kept([64], checkpointing=True) == pytest.approx(
        8 * 4 * 32 * 64 + plain.kept([64]) * RECOMPUTED
    )


def test_a_timed_pass_leaves_no_gradient() -> None:
    """Only seconds come of it."""
    tried = encoder()
    assert seconds_of_pass(tried, [16, 8]) > 0
    assert all(value.grad is None for value in tried.parameters())
