"""The paired bootstrap: honest about nothing, sure about much, the same at every call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtlplug.errors import MtlplugError
from mtlplug.formats import Task
from mtlplug.plugin_manager import load_plugins
from mtlplug.results import compare as module
from mtlplug.results.compare import SLOW_DRAWS, compare
from mtlplug.results.evaluate import Evaluation, ScoredRow, evaluate_run


def evaluation(right: list[bool]) -> Evaluation:
    """A classifier of rows of label `a`, right on these."""
    task_format = load_plugins().formats["C"]
    task = Task("t", "C", labels=("a", "b"))
    given = ["a" if each else "b" for each in right]
    gold = ["a"] * len(right)
    rows = [ScoredRow(f"row {n}", "", 1, {}, 0.0, (one,), ("a",)) for n, one in enumerate(given)]
    metrics = task_format.metrics(task, given, gold)
    return Evaluation(Path("run"), task, task_format, "valid", metrics, rows, [])


def test_a_clear_difference() -> None:
    """60 rows of 100 are won: the interval is far from zero, p as small as the draws allow."""
    found = compare(evaluation([True] * 90 + [False] * 10), evaluation([True] * 30 + [False] * 70))
    accuracy = found[0]
    assert (accuracy.ours, accuracy.theirs, accuracy.difference) == pytest.approx((90, 30, 60))
    assert 45 < accuracy.low < 60 < accuracy.high < 75
    assert accuracy.p == pytest.approx(1 / (accuracy.draws + 1))
    # The interval is that of a mean of 100 differences: 1.96 standard errors to either side.
    wins = np.array([1.0] * 60 + [0.0] * 40)
    assert accuracy.high - accuracy.low == pytest.approx(2 * 196 * wins.std() / 10, rel=0.1)


def test_no_difference() -> None:
    """A run against itself differs by nothing, and p is 1."""
    (accuracy, *_) = compare(evaluation([True, False] * 20), evaluation([True, False] * 20))
    assert (accuracy.low, accuracy.high, accuracy.p) == (0, 0, 1)


def test_p_is_right_where_nothing_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of pairs of equally good runs about 5 % have p below 0.05."""
    monkeypatch.setattr(module, "DRAWS", 200)  # enough for a p of 0.05
    random = np.random.default_rng(3)
    values = []
    for _ in range(60):
        ours, theirs = (random.random((2, 60)) < 0.7).tolist()
        values.append(compare(evaluation(ours), evaluation(theirs))[0].p)
    assert np.mean(np.array(values) < 0.05) < 0.15
    assert 0.3 < np.mean(values) < 0.7


def test_the_seed_decides() -> None:
    """The same call gives the same figures; another seed gives others."""
    random = np.random.default_rng(1)
    pair = [evaluation((random.random(50) < share).tolist()) for share in (0.8, 0.6)]
    assert compare(*pair) == compare(*pair)
    assert compare(*pair) != compare(*pair, seed=1)


class Uncounted:
    """A format without counts."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def row_counts(self, *_: Any) -> None:
        """None."""


def test_a_format_without_counts() -> None:
    """Its metrics are computed anew for every draw, and say about the same."""
    random = np.random.default_rng(2)
    pair = [evaluation((random.random(50) < share).tolist()) for share in (0.9, 0.5)]
    slow = [replace(each, format=Uncounted(each.format)) for each in pair]
    quick, other = compare(*pair)[0], compare(*slow)[0]
    assert other.draws == SLOW_DRAWS
    assert (other.low, other.high) == pytest.approx((quick.low, quick.high), abs=6)


def test_runs_on_other_rows(runs: tuple[Path, Path]) -> None:
    """Runs scored on other rows, or on tasks of other formats, are not compared."""
    with pytest.raises(MtlplugError, match="which are not the same"):
        compare(evaluation([True] * 3), evaluation([True] * 4))
    with pytest.raises(MtlplugError, match="only runs on the same task are compared"):
        compare(evaluate_run(runs[0], "tags"), evaluation([True] * 8))
