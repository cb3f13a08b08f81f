"""Attention inside each sequence of a packed stream, for transformers' attention interface.

A model whose attention implementation is `NAME` runs over one long row of tokens, `(1, T)`.
Everything but attention treats tokens one by one; attention is computed here, each sequence by
itself, so no mask over T x T tokens exists. Importing this module registers the function.

Shapes: T packed tokens, S sequences, N sequences of one run, L tokens of a sequence,
H attention heads, E width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from mtlplug.batching.stream import TokenStream

NAME = "mtlplug_packed"
"""The attention implementation's name; never written to a saved model."""

CPU_SCORES = 1 << 18
"""Most scores of one head (N L L) computed at once on a CPU: what stays in its caches. Without
the bound, runs of 384 or 512 tokens took 1.05 to 2 times as long (fp32, AVX2)."""


@dataclass(frozen=True)
class Plan:
    """How attention goes over a packed stream.

    Attributes:
        runs: neighbouring sequences of one length, as (sequences, tokens of each).
    """

    runs: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, stream: TokenStream) -> Plan:
        """The plan for a stream; the fewer different lengths in a row, the fewer runs."""
        runs = equal_runs(stream.lengths, CPU_SCORES if stream.ids_T.device.type == "cpu" else None)
        return cls(runs)


def equal_runs(lengths: Sequence[int], most_scores: int | None) -> tuple[tuple[int, int], ...]:
    """Neighbouring sequences of one length as (sequences, length), with N L L bounded.

    >>> equal_runs([3, 3, 3, 5], most_scores=18)
    ((2, 3), (1, 3), (1, 5))
    """
    runs = []
    for length, group in groupby(lengths):
        left = sum(1 for _ in group)
        most = left if most_scores is None else max(1, most_scores // length**2)
        while left > 0:
            runs.append((min(left, most), length))
            left -= most
    return tuple(runs)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed_plan: Plan | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of every token to the tokens of its own sequence.

    Args:
        module: the calling layer, not used.
        query: queries over the whole stream; key and value have the same shape.
        key: keys.
        value: values.
        attention_mask: None: the plan says who sees whom.
        packed_plan: where the sequences lie; the model's `forward` hands it through.
        scaling: factor on the scores; by default 1 / sqrt(E).
        dropout: probability to drop a weight; zero outside training.
        sliding_window: tokens see each other at distances below this; None: at all.

    *Shape:* (1, H, T, E) -> (1, T, H, E). The second value, attention weights, is None.

    Raises:
        ValueError: the model was called without a plan, or with a mask.
    """
    if packed_plan is None or attention_mask is not None:
        raise ValueError(
            f"a model with the attention implementation '{NAME}' runs inside Encoder only; save "
            "and load it, or call set_attn_implementation('sdpa'), to use it otherwise"
        )
    sizes = [sequences * length for sequences, length in packed_plan.runs]
    # split(), not slices: the backward of a slice fills a whole stream with zeros.
    streams = (part.transpose(1, 2)[0] for part in (query, key, value))
    queries, keys, values = (torch.split(stream_THE, sizes) for stream_THE in streams)
    rows = []
    for (count, length), *parts in zip(packed_plan.runs, queries, keys, values, strict=True):
        run = [part.view(count, length, *part.shape[1:]).transpose(1, 2) for part in parts]
        band = _band(length, sliding_window, query.device)
        out = _attend(run[0], run[1], run[2], band, dropout, scaling or query.shape[-1] ** -0.5)
        rows.append(out.transpose(1, 2).reshape(count * length, *out.shape[1::2]))
    return torch.cat(rows).unsqueeze(0), None


def _attend(
    query: Tensor, key: Tensor, value: Tensor, band: Tensor | None, dropout: float, scaling: float
) -> Tensor:
    """Attention over N sequences of one length. *Shape:* (N, H, L, E) -> (N, H, L, E)."""
    if dropout == 0.0 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, band, dropout, scale=scaling)
    # The CPU's flash kernel has no dropout; torch's stand-in is 1.05 to 1.3 times slower.
    scores = torch.matmul(query * scaling, key.transpose(-1, -2))
    if band is not None:
        scores = scores.masked_fill(~band, float("-inf"))
    return torch.matmul(F.dropout(scores.softmax(-1), dropout), value)


def _band(length: int, sliding_window: int | None, device: torch.device) -> Tensor | None:
    """Which tokens of a sequence see each other, (L, L); None where all do."""
    if sliding_window is None or length <= sliding_window:
        return None
    index_L = torch.arange(length, device=device)
    return (index_L[:, None] - index_L).abs() < sliding_window


AttentionInterface.register(NAME, packed_attention)
