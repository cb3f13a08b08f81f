"""How a batch is split: over ranks by cost, and a rank's share into micro-batches by tokens.

Both answers depend on the numbers given alone, so that every rank finds the same ones.

Shapes: B features, P features of one rank.
"""

from __future__ import annotations

import heapq
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

UNITS = 64
"""Costs are compared as whole numbers of this fraction of a token: the same on any processor."""

GOOD_ENOUGH = 1.002
"""Cost of the costliest rank, over the mean, from which no better split is looked for."""


def split_over_ranks(costs_B: npt.NDArray[Any], ranks: int) -> list[Indices]:
    """Split features so that the ranks' costs are nearly equal.

    Longest processing time first (each feature, the costliest first, goes to the rank that has
    the least so far), then moves and exchanges between the costliest rank and any other as long
    as they help.
    """
    if ranks == 1:
        return [np.arange(len(costs_B))]
    units_B = np.rint(np.asarray(costs_B) * UNITS).astype(np.int64)
    rank_B = longest_first(units_B, ranks)
    _improve(units_B, rank_B, ranks)
    return [np.flatnonzero(rank_B == rank) for rank in range(ranks)]


def longest_first(units_B: Indices, ranks: int) -> Indices:
    """The rank of each feature."""
    loads = [(0, rank) for rank in range(ranks)]
    rank_B = np.empty(len(units_B), dtype=np.int64)
    order = np.argsort(-units_B, kind="stable").tolist()
    for feature, units in zip(order, units_B[order].tolist(), strict=True):
        load, rank = loads[0]
        rank_B[feature] = rank
        heapq.heapreplace(loads, (load + units, rank))
    return rank_B


def _improve(units_B: Indices, rank_B: Indices, ranks: int) -> None:
    """Ease the costliest rank, in place, until no single move or exchange does.

    A feature of the costliest rank changes places with one of another rank, or with nothing.
    Of all these pairs the one is taken that leaves the costlier of the two ranks least.
    """
    loads = np.bincount(rank_B, units_B, ranks).astype(np.int64)
    good = GOOD_ENOUGH * loads.sum() / ranks
    # Beside the features, nothing: one empty place on each rank.
    others_X = np.append(units_B, np.zeros(ranks, np.int64))
    ranks_X = np.append(rank_B, np.arange(ranks))
    for _ in range(len(units_B)):  # each round lowers a rank that is the costliest
        top = int(loads.argmax())
        if loads[top] <= good:
            break
        mine_P = np.flatnonzero(ranks_X[: len(units_B)] == top)
        # What the costliest rank gives away by each exchange.
        given_PX = units_B[mine_P, None] - others_X
        after_PX = np.maximum(loads[top] - given_PX, loads[ranks_X] + given_PX)
        after_PX[:, ranks_X == top] = loads[top]
        best = int(after_PX.argmin())
        if after_PX.flat[best] >= loads[top]:
            break
        row, other = divmod(best, len(others_X))
        place, given = int(mine_P[row]), int(given_PX.flat[best])
        there = int(ranks_X[other])
        loads[top] -= given
        loads[there] += given
        ranks_X[place] = there
        if other < len(units_B):
            ranks_X[other] = top
    rank_B[:] = ranks_X[: len(units_B)]


def micro_batches(lengths_B: Indices, max_tokens: int) -> list[Indices]:
    """Cut features, sorted by length, into micro-batches of at most `max_tokens` tokens.

    Sorted, so that sequences of equal length meet; cut evenly, so that none is left tiny. A
    feature longer than the budget is a micro-batch of its own.
    """
    order = lengths_B.argsort(kind="stable")
    total = int(lengths_B.sum())
    if len(order) and total <= max_tokens:
        return [order]
    lengths_B = lengths_B[order]
    ends = lengths_B.cumsum()
    for number in range(-(-total // max_tokens), len(order) + 1):
        # A feature belongs to the part in which its middle token lies.
        part_B = ((ends - lengths_B / 2) * number // total).astype(np.int64)
        tokens = np.bincount(part_B, lengths_B, minlength=number)
        features = np.bincount(part_B, minlength=number)
        if ((tokens <= max_tokens) | (features <= 1)).all():
            edges = [0, *features.cumsum().tolist()]
            return [order[first:end] for first, end in pairwise(edges) if end > first]
    return [order[index : index + 1] for index in range(len(order))]
