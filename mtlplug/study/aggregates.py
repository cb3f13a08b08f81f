"""Mean and deviation of every target with every column, and the averages made of them.

The figures of a study and those printed in a paper go the same way: both become a `Grid`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from mtlplug.study.results import BASELINE, Results, mean_and_deviation
from mtlplug.study.statistics import differs


@dataclass(frozen=True)
class Summary:
    """A score and how far it is to be trusted.

    Attributes:
        mean: over seeds, in percent; of an average: the mean of such means.
        deviation: over seeds (n - 1); of an average: the mean of the deviations, as in the last
            row of Table 1 in Padmakumar et al. (2022). None where there is a single seed.
        complete: whether every planned seed is in it.
        differs: from the baseline; None where that cannot be said or was not asked.
    """

    mean: float
    deviation: float | None = None
    complete: bool = True
    differs: bool | None = None


Grid = Mapping[tuple[str, str], Summary]
"""By (target, column); what has no score is not in it."""


def grid_of(results: Results) -> dict[tuple[str, str], Summary]:
    """Every target with every column that has a score."""
    grid = {}
    for target in results.targets:
        baseline = results.scores(target.name, BASELINE)
        for column in results.columns:
            scores = results.scores(target.name, column.name)
            if scores:
                own = column.name == BASELINE
                grid[target.name, column.name] = Summary(
                    *mean_and_deviation(scores),
                    complete=len(scores) == len(results.seeds),
                    differs=None if own else differs(scores, baseline),
                )
    return grid


def unjudged(grid: Grid, target: str, column: str) -> bool:
    """Whether a score stands beside a baseline that it cannot be compared with: neither has any
    spread, or there are fewer than two seeds of one.
    """
    both = {(target, column), (target, BASELINE)} <= grid.keys() and column != BASELINE
    return both and grid[target, column].differs is None


def shared_targets(grid: Grid, targets: Sequence[str], columns: Sequence[str]) -> list[str]:
    """The targets that every column has, leaving out columns without any score."""
    return _shared(targets, columns, lambda key: key in grid)


def averages(grid: Grid, targets: Sequence[str], columns: Sequence[str]) -> dict[str, Summary]:
    """Every column's average and average deviation over the same targets.

    Averages over different targets cannot be compared, so a target that one column lacks is left
    out of all; a column without any score has no average. Deviations are averaged over the
    targets that have one in every column with deviations.

    Args:
        grid: means and deviations.
        targets: to average over, as far as all columns have them.
        columns: to average.
    """
    rows = shared_targets(grid, targets, columns)
    spread = _shared(rows, columns, lambda key: key in grid and grid[key].deviation is not None)
    found = {}
    for column in columns:
        cells = [grid[row, column] for row in rows if (row, column) in grid]
        deviations = [grid[row, column].deviation for row in spread if (row, column) in grid]
        known = [each for each in deviations if each is not None]
        if cells:
            found[column] = Summary(
                fmean(each.mean for each in cells),
                fmean(known) if known else None,
                complete=all(each.complete for each in cells),
            )
    return found


def _shared(
    rows: Sequence[str], columns: Sequence[str], has: Callable[[tuple[str, str]], bool]
) -> list[str]:
    """The rows that have something in every column that has something at all."""
    present = [column for column in columns if any(has((row, column)) for row in rows)]
    return [row for row in rows if present and all(has((row, column)) for column in present)]


def groups_of(results: Results) -> dict[str, list[str]]:
    """The names of the targets of each group, in the study's order."""
    groups: dict[str, list[str]] = {}
    for target in results.targets:
        groups.setdefault(target.group, []).append(target.name)
    return groups
