"""What few seeds and few targets allow to say: intervals, tests, and averages.

Two kinds of chance are kept apart. *Seeds*: a score would be another with another seed; `differs`
and `bootstrap_mean` look at that, one target at a time. *Targets*: the next twelve tasks would be
others; `compare` looks at that, over all targets. With five seeds no signed-rank test over seeds
can go below p = 0.0625, so columns are compared over targets.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Name = TypeVar("Name", bound=Hashable)

CONFIDENCE = 0.95

RESAMPLES = 10_000

SIGNIFICANT = 0.05

NOISE = 1e-9
"""Points below which two scores differ only as floats do."""


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, in the unit of what it is of."""

    low: float
    high: float


def bootstrap_mean(values: Sequence[float], *, seed: int = 0) -> Interval | None:
    """Percentile bootstrap interval of a mean; None for fewer than two values.

    With n values it is about sqrt((n - 1) / n) times as wide as it should be, and its ends are
    normal ones: of 100 intervals of five scores some 84 hold the truth, of twelve some 91. It
    describes; `differs` and `compare` decide.

    Args:
        values: one for each seed, or for each target, in any order.
        seed: of the resampling.
    """
    if len(values) < 2:
        return None
    values_N = np.sort(np.asarray(values, float))  # the order of seeds decides nothing
    draws_RN = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    means_R = values_N[draws_RN].mean(axis=1)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means_R, [tail, 100 - tail])
    return Interval(float(low), float(high))


def bootstrap_difference(
    first: Sequence[float], second: Sequence[float], *, seed: int = 0
) -> Interval | None:
    """Interval of the difference of two columns' means, first less second, over targets.

    Targets are drawn with replacement, and a drawn target brings both its scores. The scores are
    means over seeds as they were measured, so what seeds add to the differences is in it, too.
    None for fewer than two targets.

    Args:
        first, second: mean scores of the two columns on the same targets.
        seed: of the resampling.
    """
    return bootstrap_mean(_differences(first, second).tolist(), seed=seed)


def welch(scores: Sequence[float], baseline: Sequence[float]) -> Interval | None:
    """Welch's t interval of the difference of two means, `scores` less `baseline`.

    None with fewer than two scores a side, or where neither side has any spread.
    """
    from scipy import stats  # takes a second, which the start of a study need not wait for

    if min(len(scores), len(baseline)) < 2:
        return None
    if max(np.ptp(scores), np.ptp(baseline)) < NOISE:
        return None
    sizes_2 = np.array([len(scores), len(baseline)])
    errors_2 = np.array([np.var(scores, ddof=1), np.var(baseline, ddof=1)]) / sizes_2
    freedom = errors_2.sum() ** 2 / (errors_2**2 / (sizes_2 - 1)).sum()
    margin = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * np.sqrt(errors_2.sum())
    difference = float(np.mean(scores) - np.mean(baseline))
    return Interval(difference - float(margin), difference + float(margin))


def differs(scores: Sequence[float], baseline_scores: Sequence[float]) -> bool | None:
    """Whether a cell's scores can be told from the baseline's on the same target.

    It is Welch's t test at 5 %: the interval of `welch` leaves out zero. Spreads are not pooled,
    since encoders differ in spread as much as in score (Padmakumar et al. 2022, Table 1: 0.5
    against 10.7). Seeds are not paired: a seed starts the same head on another encoder. Rank and
    permutation tests cannot go below p = 0.1 with three seeds a side, and bootstrap intervals of
    three to five scores are too narrow. One cell in twenty that does not differ is still said to.

    Returns:
        None where the scores cannot say: fewer than two a side, or neither side has any spread.
    """
    interval = welch(scores, baseline_scores)
    return None if interval is None else not interval.low <= 0 <= interval.high


@dataclass(frozen=True)
class Comparison:
    """Two columns over the targets that both have.

    Attributes:
        targets: how many.
        difference: of the columns' means, in points, first less second.
        interval: bootstrap over targets; None with fewer than two.
        better, worse: on how many targets the first is so; on the others they are equal.
        p: of the signed-rank test, two-sided; None where no target differs.
        least: the smallest p that so many differing targets can give.
    """

    targets: int
    difference: float
    interval: Interval | None
    better: int
    worse: int
    p: float | None
    least: float

    def can_tell(self, tests: int = 1) -> bool:
        """Whether so many such tests, corrected for their number, could all go below 0.05.

        Not with fewer than `targets_needed(tests)` targets that differ.
        """
        return self.least * tests < SIGNIFICANT


def compare(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> Comparison:
    """Wilcoxon's signed-rank test of two columns, paired over targets.

    Targets on which they are equal are left out of the test. It is exact up to 50 targets; where
    differences tie, up to 13 (with scipy before 1.13 then by the normal approximation, as above
    these numbers).

    Args:
        first, second: mean scores of the two columns on the same targets, one or more.
        seed: of the bootstrap.
    """
    from scipy import stats

    differences_N = _differences(first, second)
    unequal = differences_N[differences_N != 0]
    p = float(stats.wilcoxon(unequal).pvalue) if len(unequal) else None
    return Comparison(
        targets=len(differences_N),
        difference=float(differences_N.mean()),
        interval=bootstrap_difference(first, second, seed=seed),
        better=int((differences_N > 0).sum()),
        worse=int((differences_N < 0).sum()),
        p=p,
        least=smallest_p(len(unequal)),
    )


def smallest_p(targets: int) -> float:
    """The smallest two-sided p of a signed-rank test: all targets differ the same way.

    >>> smallest_p(5), smallest_p(6)
    (0.0625, 0.03125)
    """
    return min(1.0, 2.0 ** (1 - targets))


def targets_needed(tests: int = 1) -> int:
    """So many targets must differ for so many tests, corrected, to go below 0.05 all of them.

    >>> targets_needed(), targets_needed(2), targets_needed(7)
    (6, 7, 9)
    """
    return next(n for n in count(1) if smallest_p(n) * tests < SIGNIFICANT)


def _differences(first: Sequence[float], second: Sequence[float]) -> NDArray[np.float64]:
    """First less second; without the noise of floats, so that equal differences tie."""
    values_2N = np.asarray([first, second], float)
    return np.asarray(np.round(values_2N[0] - values_2N[1], 9), np.float64)


def holm(ps: Mapping[Name, float]) -> dict[Name, float]:
    """P values corrected for their number (Holm 1979): as many chances to be wrong as one test.

    >>> holm({"a": 0.01, "b": 0.04})
    {'a': 0.02, 'b': 0.04}
    """
    corrected: dict[Name, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(ps, key=lambda name: ps[name])):
        highest = max(highest, min(1.0, ps[name] * (len(ps) - rank)))
        corrected[name] = highest
    return {name: corrected[name] for name in ps}
