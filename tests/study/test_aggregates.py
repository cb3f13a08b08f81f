"""Averages are over the same targets in every column, and only of what is there."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlplug.study.aggregates import Summary, averages, grid_of, groups_of, shared_targets
from tests.study.small_results import results_of

SCORE = st.integers(0, 10_000).map(lambda number: number / 100)
CELLS = st.dictionaries(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["baseline", "SL", "C"])),
    st.lists(st.none() | SCORE, min_size=1, max_size=3),
    min_size=1,
)


def test_a_summary_is_mean_and_deviation_over_seeds() -> None:
    """Sample deviation; a failed seed is left out and makes the cell incomplete."""
    found = grid_of(results_of({("a", "SL"): [1.0, 2.0, 6.0], ("a", "C"): [1.0, None, None]}))
    assert found["a", "SL"] == Summary(3.0, pytest.approx(7**0.5), complete=True)
    assert found["a", "C"] == Summary(1.0, None, complete=False)
    assert ("a", "baseline") not in found


def test_a_summary_says_whether_it_differs() -> None:
    """From the baseline of the same target; the baseline itself has no verdict."""
    grid = grid_of(
        results_of({
            ("a", "baseline"): [50.0, 51.0, 49.0],
            ("a", "SL"): [60.0, 61.0, 59.0],
            ("a", "C"): [50.5, 51.0, 49.0],
        })
    )  # fmt: skip
    verdicts = {column: grid["a", column].differs for column in ("baseline", "SL", "C")}
    assert verdicts == {"baseline": None, "SL": True, "C": False}


def test_averages_leave_out_what_one_column_lacks() -> None:
    """A target without score in one column is in no average; an empty column has none."""
    grid = {
        ("a", "x"): Summary(10.0, 1.0), ("a", "y"): Summary(20.0, 3.0),
        ("b", "x"): Summary(30.0, 2.0), ("b", "y"): Summary(60.0, 5.0, complete=False),
        ("c", "x"): Summary(1000.0, 50.0),
    }  # fmt: skip
    assert shared_targets(grid, "abc", "xyz") == ["a", "b"]
    assert averages(grid, "abc", "xyz") == {
        "x": Summary(20.0, 1.5),
        "y": Summary(40.0, 4.0, complete=False),
    }
    assert averages(grid, "abc", "x")["x"].mean == pytest.approx(1040 / 3)
    assert averages({}, "abc", "xyz") == {}


def test_deviations_are_averaged_where_all_columns_have_one() -> None:
    """A single seed has a mean but no deviation."""
    grid = {
        ("a", "x"): Summary(10.0, 1.0), ("a", "y"): Summary(20.0, 3.0),
        ("b", "x"): Summary(30.0, 9.0), ("b", "y"): Summary(40.0, None),
    }  # fmt: skip
    found = averages(grid, "ab", "xy")
    assert {name: (each.mean, each.deviation) for name, each in found.items()} == {
        "x": (20.0, 1.0),
        "y": (30.0, 3.0),
    }


@settings(max_examples=50, deadline=None)
@given(CELLS, st.randoms(use_true_random=False), st.integers(1, 50))
def test_order_is_nothing_and_constants_move_means_alone(
    cells: dict[tuple[str, str], list[float | None]], order: random.Random, shift: int
) -> None:
    """Trials may be in any order; a constant added to all scores moves means, not deviations."""
    results = results_of(cells)
    shuffled = list(results.trials)
    order.shuffle(shuffled)
    assert grid_of(replace(results, trials=tuple(shuffled))) == grid_of(results)
    moved = tuple(
        replace(trial, score=None if trial.score is None else trial.score + shift)
        for trial in results.trials
    )
    there = grid_of(replace(results, trials=moved))
    for key, summary in grid_of(results).items():
        assert there[key].mean == pytest.approx(summary.mean + shift)
        assert there[key].deviation == pytest.approx(summary.deviation, abs=1e-9)


def test_groups_keep_the_order_of_targets() -> None:
    """Targets by group, as the study lists them."""
    scores = {(name, "SL"): [1.0] for name in "dabc"}
    results = results_of(scores, groups={"d": "X", "a": "Y", "b": "X", "c": "Y"})
    assert groups_of(results) == {"X": ["d", "b"], "Y": ["a", "c"]}
