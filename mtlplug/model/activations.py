"""What an encoder keeps of its forward pass for the backward pass, counted on short sequences.

Shapes: X lengths tried, S sequences, T tokens, D hidden width.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtlplug.batching.stream import TokenStream
from mtlplug.model.encoder import Encoder

SHORTEST = 16
"""Tokens of the first sequence that is tried; each next one is twice as long."""

RECOMPUTED = 0.54
"""Share of what is kept without checkpointing that a process takes while layers are computed again
one by one: far more than one layer's, as measured on CPUs with encoders of 6 and of 12 layers
(`benchmarks/memory.py`)."""

PASSES = 3
"""Timed passes; the middle one counts."""


@dataclass(frozen=True)
class Activations:
    """Bytes kept for the backward pass, in float32, by the length of a sequence.

    A kernel may keep more for longer sequences, so several lengths are tried; between them
    bytes are interpolated.

    Attributes:
        lengths_X: tokens of the sequences tried, in ascending order.
        bytes_X: what was kept of each.
        layers: of the encoder.
        row: bytes of a layer's output for one token.
    """

    lengths_X: Sequence[int]
    bytes_X: Sequence[float]
    layers: int
    row: int

    @classmethod
    def of(cls, encoder: Encoder, longest: int) -> Activations:
        """Counted on one sequence of each length, up to `longest` tokens."""
        encoder.train()
        lengths = [min(SHORTEST, longest)]
        while lengths[-1] < longest:
            lengths.append(min(2 * lengths[-1], longest))
        with encoder.everything_kept():
            kept = [float(_kept(encoder, length)) for length in lengths]
        layers = int(getattr(encoder.model.config, "num_hidden_layers", 1))
        return cls(lengths, kept, layers, 4 * encoder.hidden_size)

    def kept(self, lengths_S: npt.ArrayLike, *, checkpointing: bool = False) -> float:
        """Bytes of sequences of these lengths.

        With checkpointing each layer's input is kept, and one layer at a time is computed again.
        """
        lengths_S = np.asarray(lengths_S)
        # What is longer than the longest tried is several sequences that travel together.
        tried_S = np.minimum(lengths_S, self.lengths_X[-1])
        bytes_S = np.interp(tried_S, [0, *self.lengths_X], [0.0, *self.bytes_X])
        everything = (bytes_S * lengths_S / tried_S).sum()
        if not checkpointing:
            return float(everything)
        return float(self.layers * self.row * lengths_S.sum() + RECOMPUTED * everything)


def seconds_of_pass(encoder: Encoder, lengths: Sequence[int]) -> float:
    """Seconds of a forward and backward pass of training over sequences of these lengths."""
    encoder.train()
    stream = _stream(lengths, encoder)
    seconds = []
    for _ in range(PASSES + 1):  # the first one is slower
        started = time.perf_counter()
        encoder(stream).float().sum().backward()
        if stream.ids_T.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
        encoder.zero_grad()
    return median(seconds[1:])


def _kept(encoder: Encoder, length: int) -> int:
    """Bytes of the tensors that a pass over one sequence keeps, beside the parameters."""
    weights = {value.untyped_storage().data_ptr() for value in encoder.parameters()}
    sizes: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        hidden_TD = encoder(_stream([length], encoder))
        total = sum(sizes.values())
    del hidden_TD
    return total


def _stream(lengths: Sequence[int], encoder: Encoder) -> TokenStream:
    ids = [np.full(length, 5) for length in lengths]
    types = [np.zeros(length, int) for length in lengths]
    return TokenStream.of(ids, types).to(next(encoder.parameters()).device)
