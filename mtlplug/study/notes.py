"""Notes below the tables of a study: what the marks mean, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtlplug.pages.table import INCOMPLETE, PARTIAL, SAME, UNJUDGED
from mtlplug.study.aggregates import Grid, shared_targets, unjudged
from mtlplug.study.results import FAILED, Results

LISTED = 6
"""So many names are listed in a note; the others are counted."""


def about_averages(grid: Grid, targets: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    """What is left out of averages because some figures are missing."""
    return (*_left_out(grid, targets, columns, "targets"), *_empty(grid, targets, columns))


def about_group_averages(
    grid: Grid, by_group: Grid, groups: Mapping[str, Sequence[str]], columns: Sequence[str]
) -> tuple[str, ...]:
    """What is left out of the averages of each group, and of the average of groups.

    Args:
        grid: by target and column.
        by_group: averages by group and column.
        groups: their targets.
        columns: of the table.
    """
    notes = [
        f"{group}: {note}"
        for group, targets in groups.items()
        for note in _left_out(grid, targets, columns, "targets")
    ]
    last = [f"last row: {note}" for note in _left_out(by_group, [*groups], columns, "groups")]
    return (*notes, *last, *_empty(by_group, [*groups], columns))


def _left_out(grid: Grid, rows: Sequence[str], columns: Sequence[str], what: str) -> list[str]:
    """Which rows are in no average."""
    shared = shared_targets(grid, rows, columns)
    missing = [each for each in rows if each not in shared]
    if not missing:
        return []
    return [
        f"averages are over the {len(shared)} of {len(rows)} {what} that all columns "
        f"with scores have; left out: {listed(missing)}"
    ]


def _empty(grid: Grid, rows: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Which columns have no average."""
    empty = [each for each in columns if not any((row, each) in grid for row in rows)]
    return [f"no score yet, so without average: {listed(empty)}"] if empty else []


def listed(names: Sequence[str]) -> str:
    """Names for a sentence; of many, the first ones.

    >>> listed(["a", "b"]), listed(list("abcdefgh"))
    ('a, b', 'a, b, c, d, e, f and 2 more')
    """
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")


def about_scores(results: Results, grid: Grid) -> list[str]:
    """What the cells of targets and columns are, and what their marks mean."""
    seeds = len(results.seeds)
    notes = [
        f"mean ± standard deviation over {seeds} seeds on validation data, on which the learning "
        "rate was chosen, too; bold: best of its row"
    ]
    if any(each.differs is False for each in grid.values()):
        notes.append(
            f"{SAME} not distinguishable from the baseline: Welch's 95 % interval of the "
            "difference holds zero; of 20 cells without a difference some 19 get this mark"
        )
    if seeds < 2:
        notes.append("one seed: no score can be told from the baseline's")
    elif any(unjudged(grid, target, column) for target, column in grid):
        notes.append(
            f"{UNJUDGED} nothing can be said: there is but one score of it or of the baseline, or "
            "neither has any spread"
        )
    notes += about_incomplete(results, grid)
    notes += [
        f"{column.name} failed: {_line(column.error)}"
        for column in results.columns
        if column.state == FAILED
    ]
    return notes + about_targets(results)


def about_incomplete(results: Results, grid: Grid) -> list[str]:
    """The cells with fewer scores than planned and how many these have, and runs that failed."""
    incomplete = [
        f"{target} with {column} ({len(results.scores(target, column))})"
        for (target, column), summary in grid.items()
        if not summary.complete
    ]
    failed = [
        f"{each.target} with {each.column} at {each.rate:g}, seed {each.seed}"
        for each in results.trials
        if each.state == FAILED and (each.target, each.column) in grid
    ]
    notes = []
    if incomplete:
        notes.append(f"{INCOMPLETE} fewer than {len(results.seeds)} seeds: {listed(incomplete)}")
    if failed:  # of a rate that failed nobody knows whether it would have been the best
        notes.append(f"failed, and left out: {listed(failed)}")
    return notes


def about_targets(results: Results) -> list[str]:
    """What the suite says of targets."""
    return [f"{PARTIAL} {each.name}: {each.note}" for each in results.targets if each.note]


def _line(error: str) -> str:
    """The last line of an error, which says what it was."""
    lines = error.strip().splitlines()
    return lines[-1] if lines else "see its log"
