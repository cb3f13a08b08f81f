"""Intervals hold as often as they say, tests are the textbook's, and nothing is said of too few."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mtlplug.study.statistics import (
    bootstrap_difference,
    bootstrap_mean,
    compare,
    differs,
    holm,
    smallest_p,
    welch,
)

SCORE = st.integers(0, 10_000).map(lambda number: number / 100)
SEVERAL = st.lists(SCORE, min_size=2, max_size=8)


@settings(max_examples=40, deadline=None)
@given(SEVERAL)
def test_bootstrap_interval_holds_the_mean(values: list[float]) -> None:
    """The interval is around the mean, and no wider than the values."""
    interval = bootstrap_mean(values)
    assert interval is not None
    assert min(values) - 1e-9 <= interval.low <= np.mean(values) + 1e-9
    assert np.mean(values) - 1e-9 <= interval.high <= max(values) + 1e-9


@settings(max_examples=20, deadline=None)
@given(SEVERAL, st.randoms(use_true_random=False), st.integers(-50, 50))
def test_bootstrap_interval_moves_with_its_values(
    values: list[float], random: object, shift: int
) -> None:
    """Order decides nothing, and a constant added to all values moves both ends by it."""
    interval = bootstrap_mean(values)
    shuffled = sorted(values, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert bootstrap_mean(shuffled) == interval
    moved = bootstrap_mean([value + shift for value in values])
    assert moved is not None
    assert interval is not None
    assert moved.low == pytest.approx(interval.low + shift)
    assert moved.high == pytest.approx(interval.high + shift)


def test_bootstrap_is_seeded() -> None:
    """The same seed gives the same interval, another seed another one; one value gives none."""
    values = [1.03, 2.11, 4.17, 8.29, 16.41, 3.07, 9.59, 5.83]
    assert bootstrap_mean(values) == bootstrap_mean(values)
    assert bootstrap_mean(values, seed=0) != bootstrap_mean(values, seed=1)
    assert bootstrap_mean([5.0]) is None


def test_bootstrap_agrees_with_all_resamples() -> None:
    """For four values all 256 resamples can be counted; their percentiles are found."""
    values = [10.0, 11.0, 15.0, 30.0]
    every = [np.mean(draw) for draw in product(values, repeat=4)]
    low, high = np.percentile(every, [2.5, 97.5])
    interval = bootstrap_mean(values)
    assert interval is not None
    assert interval.low == pytest.approx(low, abs=0.3)
    assert interval.high == pytest.approx(high, abs=0.8)


def held(interval_of: object, size: int, rounds: int) -> float:
    """How often an interval of the mean of normal values holds the truth."""
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(rounds):
        interval = interval_of(random.normal(50, 2, size).tolist())  # type: ignore[operator]
        hits += interval.low <= 50 <= interval.high
    return hits / rounds


def test_coverage_is_as_documented() -> None:
    """Bootstrap intervals hold the truth in 84 % of cases with 5 values and 91 % with 12."""
    assert held(bootstrap_mean, 5, 300) == pytest.approx(0.846, abs=0.06)
    assert held(bootstrap_mean, 12, 300) == pytest.approx(0.913, abs=0.05)


def test_difference_is_paired_over_targets() -> None:
    """A drawn target brings both its scores: equal differences leave no interval at all."""
    first, second = [10.0, 50.0, 90.0], [8.0, 48.0, 88.0]
    interval = bootstrap_difference(first, second)
    assert interval is not None
    assert (interval.low, interval.high) == (2.0, 2.0)


@pytest.mark.parametrize("spread", [(1.0, 1.0), (0.3, 6.0)])
@pytest.mark.parametrize("seeds", [3, 5])
def test_cells_without_difference_are_rarely_told_apart(
    seeds: int, spread: tuple[float, float]
) -> None:
    """Of 2000 pairs of equal cells about one in twenty is said to differ, whatever the spreads."""
    random = np.random.default_rng(1)
    found = sum(
        differs(
            random.normal(50, spread[0], seeds).tolist(),
            random.normal(50, spread[1], seeds).tolist(),
        )
        is True
        for _ in range(2000)
    )
    assert 0.02 <= found / 2000 <= 0.07


def test_large_differences_are_told_apart() -> None:
    """Ten points with a deviation of one are found with three seeds a side, in both directions."""
    low, high = [50.0, 51.0, 49.0], [60.0, 61.0, 59.0]
    assert differs(high, low) is True
    assert differs(low, high) is True
    assert differs([50.5, 51.5, 49.2], low) is False


@settings(max_examples=60, deadline=None)
@given(SEVERAL, SEVERAL)
def test_verdict_is_welchs(first: list[float], second: list[float]) -> None:
    """The verdict is that of scipy's Welch test at 5 %; without any spread there is none."""
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        assert differs(first, second) is None
        return
    p = stats.ttest_ind(first, second, equal_var=False).pvalue
    if abs(p - 0.05) > 1e-9:
        assert differs(first, second) is bool(p < 0.05)


@pytest.mark.parametrize(
    ("first", "second"),
    [([50.0], [1.0, 2.0]), ([1.0, 2.0], []), ([0.1, 0.1, 0.1], [0.7, 0.7, 0.7])],
)
def test_no_verdict_of_too_little(first: list[float], second: list[float]) -> None:
    """One score a side, or no spread on both, says nothing."""
    assert differs(first, second) is None
    assert welch(first, second) is None


DIFFERENCES = st.lists(st.integers(-300, 300).map(lambda n: n / 10), min_size=1, max_size=9)


@settings(max_examples=30, deadline=None)
@given(DIFFERENCES)
def test_signed_rank_test_is_exact(differences: list[float]) -> None:
    """P is the share of all signs that give as large a rank sum, also where differences tie."""
    found = compare([50 + each for each in differences], [50.0] * len(differences))
    unequal = np.array([each for each in differences if each])
    assert (found.better, found.worse) == ((unequal > 0).sum(), (unequal < 0).sum())
    if len(unequal) == 0:
        assert found.p is None
        return
    ranks = stats.rankdata(np.abs(unequal))
    sums = np.array([np.dot(signs, ranks) for signs in product([-1, 1], repeat=len(ranks))])
    observed = abs(np.dot(np.sign(unequal), ranks))
    assert found.p == pytest.approx(np.mean(np.abs(sums) >= observed - 1e-9))
    assert found.p >= found.least - 1e-12


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(SCORE, SCORE), min_size=1, max_size=12), st.integers(-40, 40))
def test_comparison_turns_and_shifts(pairs: list[tuple[float, float]], shift: int) -> None:
    """Columns changed about turn the difference, not p; a shift of both changes nothing."""
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    found, turned = compare(first, second), compare(second, first)
    assert turned.difference == pytest.approx(-found.difference)
    assert (turned.better, turned.worse, turned.p) == (found.worse, found.better, found.p)
    assert compare([a + shift for a in first], [b + shift for b in second]) == found


def test_few_targets_cannot_tell() -> None:
    """Five targets cannot reach 0.05 however large the difference; six can, unless one is equal."""
    assert not compare([9.0, 8, 7, 6, 5], [0.0, 1, 2, 3, 4]).can_tell()
    six = compare([9.0, 8, 7, 6, 5, 4], [0.0] * 6)
    assert six.can_tell()
    assert not six.can_tell(2)
    assert six.p == pytest.approx(0.03125) == smallest_p(6)
    assert not compare([9.0, 8, 7, 6, 5, 0], [0.0] * 6).can_tell()


def test_holm_corrects_for_the_number_of_tests() -> None:
    """The smallest p is multiplied by all tests, the next by one less, and order is kept."""
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03}) == pytest.approx(
        {"a": 0.06, "b": 0.03, "c": 0.06}
    )
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}
