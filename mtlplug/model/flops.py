"""Floating point operations of an encoder: what a sequence costs, tokens and attention."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch.utils.flop_counter import FlopCounterMode

from mtlplug.batching.stream import TokenStream
from mtlplug.model.encoder import Encoder

LONGEST = 64
"""Tokens of the longest of the three sequences that are counted; counts are exact."""


@dataclass(frozen=True)
class Flops:
    """Operations of a forward pass without padding; a backward pass takes twice as many.

    For BERT's shape of width D and N layers, `per_token` is 24 N D^2 and `per_pair` is 4 N D.

    Attributes:
        per_token: for each token.
        per_pair: for each pair of tokens of one sequence.
    """

    per_token: float
    per_pair: float

    @property
    def pair_cost(self) -> float:
        """What a pair costs in tokens: a sequence of L tokens costs L + pair_cost * L^2."""
        return self.per_pair / self.per_token

    def forward(self, lengths: Iterable[int]) -> float:
        """Operations of a forward pass over sequences of these lengths."""
        return float(sum(self.per_token * size + self.per_pair * size**2 for size in lengths))


_COUNTED: dict[str, Flops] = {}
"""By configuration."""


def encoder_flops(encoder: Encoder) -> Flops:
    """Count the matrix products of an encoder on three short sequences, where it lies.

    A pass takes c + a L + b L^2 for a sequence of L tokens; c is for what does not depend on
    it, such as the positions that DeBERTa projects, and is left out. Attention within a window
    counts as if it were full, which it is for sequences shorter than the window.

    Encoders of one configuration are counted once in a process.
    """
    key = encoder.model.config.to_json_string()
    if key not in _COUNTED:
        _COUNTED[key] = _count(encoder)
    return _COUNTED[key]


def _count(encoder: Encoder) -> Flops:
    longest = min(LONGEST, encoder.max_length)
    lengths_X = np.array([longest // 4, longest // 2, longest])
    with encoder.padded("eager"):
        counts_X = [_counted(encoder, length) for length in lengths_X.tolist()]
    powers_XX = np.stack([lengths_X**0, lengths_X, lengths_X**2], axis=1)
    _, per_token, per_pair = np.linalg.solve(powers_XX, counts_X)
    return Flops(float(per_token), float(per_pair))


def _counted(encoder: Encoder, length: int) -> int:
    """Operations of a forward pass over one sequence."""
    ids, types = np.full(length, 5), np.zeros(length, int)
    stream = TokenStream.of([ids], [types]).to(next(encoder.parameters()).device)
    with FlopCounterMode(display=False) as counter:
        encoder(stream)
    return int(counter.get_total_flops())
