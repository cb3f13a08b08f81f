"""mtlplug.batching.splitting: ranks by cost, micro-batches by tokens."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlplug.batching.splitting import UNITS, longest_first, micro_batches, split_over_ranks

LENGTHS = st.lists(st.integers(1, 400), min_size=1, max_size=150)
COSTS = st.lists(st.floats(1, 500), min_size=1, max_size=150)


def loads(costs: list[float], shares: list[np.ndarray]) -> np.ndarray:
    """What each rank carries."""
    return np.array([sum(costs[feature] for feature in share.tolist()) for share in shares])


@given(LENGTHS, st.integers(1, 500))
def test_micro_batches_hold_every_feature_once_within_the_budget(
    lengths: list[int], budget: int
) -> None:
    """Nothing is lost or doubled; only a feature longer than the budget exceeds it, alone."""
    parts = micro_batches(np.array(lengths), budget)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(lengths)))
    for part in parts:
        assert len(part) == 1 or sum(lengths[index] for index in part) <= budget


@given(LENGTHS)
def test_micro_batches_are_sorted_by_length(lengths: list[int]) -> None:
    """Sequences of like length meet, so that padding or grouping is cheap."""
    order = np.concatenate(micro_batches(np.array(lengths), 1000))
    assert sorted(lengths) == [lengths[index] for index in order]


@given(COSTS, st.integers(1, 70))
def test_ranks_hold_every_feature_once(costs: list[float], ranks: int) -> None:
    """Nothing is lost or doubled between ranks, also where they outnumber the features."""
    shares = split_over_ranks(np.array(costs), ranks)
    assert len(shares) == ranks
    assert sorted(np.concatenate(shares).tolist()) == list(range(len(costs)))


@given(COSTS, st.integers(2, 64))
def test_the_split_is_the_same_at_every_call(costs: list[float], ranks: int) -> None:
    """Ranks do not tell each other the split: each must find the same one."""
    once, again = (split_over_ranks(np.array(costs), ranks) for _ in range(2))
    assert [share.tolist() for share in once] == [share.tolist() for share in again]


@given(COSTS, st.integers(2, 64))
def test_no_split_is_worse_than_longest_first(costs: list[float], ranks: int) -> None:
    """Moves and exchanges only ever ease the costliest rank."""
    plain = np.bincount(longest_first(np.rint(np.array(costs) * UNITS), ranks), costs, ranks)
    rounding = len(costs) / UNITS
    assert loads(costs, split_over_ranks(np.array(costs), ranks)).max() <= plain.max() + rounding


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=7), st.integers(2, 3))
def test_small_splits_are_near_the_best_there_is(costs: list[int], ranks: int) -> None:
    """Against all splits: within 4/3 - 1/(3 ranks), Graham's bound (1969) for longest first."""
    every = np.array(list(product(range(ranks), repeat=len(costs))))
    best = np.stack([(every == rank) @ np.array(costs) for rank in range(ranks)]).max(0).min()
    ours = loads(costs, split_over_ranks(np.array(costs), ranks)).max()  # type: ignore[arg-type]
    assert best <= ours <= best * (4 / 3 - 1 / (3 * ranks)) + 1e-9


@pytest.mark.parametrize("ranks", [2, 4, 8, 16, 32, 64])
def test_ranks_carry_nearly_equal_costs(ranks: int) -> None:
    """With sixteen features a rank the costliest carries at most 1.01 of the mean.

    Longest first alone, and a split at random, do not.
    """
    draw = np.random.default_rng(0)
    ours, plain, random = [], [], []
    for _ in range(10):
        lengths = np.clip(draw.lognormal(3.5, 0.9, 16 * ranks), 4, 384)
        costs = lengths + lengths**2 / (6 * 384)
        shares = split_over_ranks(costs, ranks)
        ours.append(loads(costs.tolist(), shares).max() / costs.sum() * ranks)
        for ways, rank_B in (
            (plain, longest_first(costs, ranks)),
            (random, draw.integers(0, ranks, len(costs))),
        ):
            ways.append(np.bincount(rank_B, costs, ranks).max() / costs.sum() * ranks)
    assert max(ours) <= 1.01
    assert max(plain) > max(ours)
    assert min(random) > 1.01


def test_one_long_feature_has_a_rank_for_itself() -> None:
    """Where 1.01 cannot be: the costliest rank carries the longest feature and nothing else."""
    costs = np.array([400.0] + [1.0] * 30)
    shares = split_over_ranks(costs, 4)
    assert shares[int(np.argmax([0 in share for share in shares]))].tolist() == [0]
    assert sorted(loads(costs.tolist(), shares).tolist()) == [10, 10, 10, 400]
