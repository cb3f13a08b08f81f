"""Tables 1 and 2 of a study, its bootstrap intervals and its chosen learning rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from mtlplug.pages.table import (
    EDGE,
    INCOMPLETE,
    NOTHING,
    PARTIAL,
    SAME,
    UNJUDGED,
    Cell,
    Table,
    figure,
)
from mtlplug.study.aggregates import (
    Grid,
    Summary,
    averages,
    grid_of,
    groups_of,
    shared_targets,
    unjudged,
)
from mtlplug.study.notes import (
    about_averages,
    about_group_averages,
    about_incomplete,
    about_scores,
    about_targets,
)
from mtlplug.study.results import FAILED, Results, Target
from mtlplug.study.statistics import bootstrap_mean

AVERAGE, AVERAGE_DEVIATION = "average", "average deviation"


def table_1(results: Results) -> Table:
    """Targets by columns, as Table 1 of Padmakumar et al. (2022), with chance and majority.

    Every cell is the mean over seeds at the chosen rate and its deviation; the last rows are the
    columns' averages over the same targets, and the averages of their deviations.
    """
    grid = grid_of(results)
    targets, columns = _names(results)
    rows = [
        (
            _name(target),
            Cell(target.metric),
            figure(target.chance),
            figure(target.majority),
            *_scores(results, grid, target.name),
        )
        for target in results.targets
    ]
    found = averages(grid, targets, columns)
    shared = shared_targets(grid, targets, columns)
    floors = [_floor(results, shared, lambda target: target.chance)]
    floors += [_floor(results, shared, lambda target: target.majority)]
    rows.append((Cell(AVERAGE), Cell(""), *floors, *_means(found, columns)))
    blank = (Cell(AVERAGE_DEVIATION), Cell(""), Cell(""), Cell(""))
    rows.append((*blank, *_deviations(found, columns)))
    return Table(
        name="table_1",
        title=f"{results.suite}: targets after pre-finetuning on groups of tasks",
        header=("target", "metric", "chance", "majority", *columns),
        rows=tuple(rows),
        notes=(
            *about_scores(results, grid),
            "chance: answers drawn as often as they occur in training; "
            "majority: the most frequent answer, always",
            *about_averages(grid, targets, columns),
        ),
        words=2,
        rules=(*_borders(results), len(targets)),
    )


def table_2(results: Results) -> Table:
    """Averages over the targets of each group, as Table 2 of Padmakumar et al. (2022)."""
    grid = grid_of(results)
    _, columns = _names(results)
    groups = groups_of(results)
    by_group = {
        (group, column): summary
        for group, names in groups.items()
        for column, summary in averages(grid, names, columns).items()
    }
    rows = []
    for group in groups:
        found = {each: by_group[group, each] for each in columns if (group, each) in by_group}
        rows.append((Cell(group), *_means(found, columns, with_deviation=True)))
    total = averages(by_group, list(groups), columns)
    rows.append((Cell("average of groups"), *_means(total, columns, with_deviation=True)))
    return Table(
        name="table_2",
        title=f"{results.suite}: unseen targets by group",
        header=("targets", *columns),
        rows=tuple(rows),
        notes=(
            "± average of the targets' deviations over seeds",
            *about_incomplete(results, grid),
            *about_group_averages(grid, by_group, groups, columns),
        ),
        rules=(len(groups),),
    )


def intervals(results: Results) -> Table:
    """Bootstrap intervals over seeds of every target with every column."""
    _, columns = _names(results)
    grid = grid_of(results)

    def cell(target: str, column: str) -> Cell:
        interval = bootstrap_mean(results.scores(target, column))
        if interval is None:
            return Cell() if (target, column) in grid else Cell(_absent(results, target, column))
        text = f"{interval.low:.2f} to {interval.high:.2f}"
        summary = grid[target, column]
        mark = "" if summary.complete else INCOMPLETE
        return Cell(text, summary.mean, low=interval.low, high=interval.high, mark=mark)

    return Table(
        name="intervals",
        title=f"{results.suite}: bootstrap intervals over seeds",
        header=("target", *columns),
        rows=tuple(
            (_name(target), *(cell(target.name, column) for column in columns))
            for target in results.targets
        ),
        notes=(
            f"95 % percentile intervals of the mean over {len(results.seeds)} seeds; with so few "
            "scores they are too narrow: of 100 intervals of five scores some 84 hold the truth, "
            "of three some 75",
            *about_incomplete(results, grid),
            *about_targets(results),
        ),
        rules=_borders(results),
    )


def chosen_rates(results: Results) -> Table:
    """The learning rate that scored best on validation, for every target and column."""
    targets, columns = _names(results)
    ends = {min(results.rates), max(results.rates)} if len(results.rates) > 2 else set()

    def cell(target: str, column: str) -> Cell:
        rate = results.chosen_rate(target, column)
        if rate is None:
            return Cell(_absent(results, target, column))
        return Cell(f"{rate:g}", rate, mark=EDGE if rate in ends else "")

    rows = tuple((Cell(t), *(cell(t, column) for column in columns)) for t in targets)
    swept = ", ".join(f"{rate:g}" for rate in sorted(results.rates, reverse=True))
    notes = [f"swept with seed {results.seeds[0]}: {swept}"]
    if any(each.mark for row in rows for each in row):
        notes.append(f"{EDGE} an end of the sweep: a rate beyond it might do better")
    return Table(
        name="chosen_rates",
        title=f"{results.suite}: learning rates chosen on validation data",
        header=("target", *columns),
        rows=rows,
        notes=tuple(notes),
        rules=_borders(results),
    )


def _names(results: Results) -> tuple[list[str], list[str]]:
    return [each.name for each in results.targets], [each.name for each in results.columns]


def _name(target: Target) -> Cell:
    return Cell(target.name, mark=PARTIAL if target.note else "")


def _borders(results: Results) -> tuple[int, ...]:
    """The rows with which another group of targets begins."""
    groups = [target.group for target in results.targets]
    return tuple(row for row in range(1, len(groups)) if groups[row] != groups[row - 1])


def _scores(results: Results, grid: Grid, target: str) -> list[Cell]:
    """The cells of a target, the best one in bold."""
    columns = [each.name for each in results.columns]
    known = [grid[target, column].mean for column in columns if (target, column) in grid]
    cells = []
    for column in columns:
        summary = grid.get((target, column))
        if summary is None:
            cells.append(Cell(_absent(results, target, column)))
            continue
        unknown = len(results.seeds) > 1 and unjudged(grid, target, column)
        mark = SAME * (summary.differs is False) + UNJUDGED * unknown
        mark += INCOMPLETE * (not summary.complete)
        best = len(known) > 1 and summary.mean == max(known)
        cells.append(figure(summary.mean, summary.deviation, mark=mark, best=best))
    return cells


def _absent(results: Results, target: str, column: str) -> str:
    """What a cell without score says: "failed" where nothing is left to wait for, else "-"."""
    states = {each.state for each in results.of(target, column)}
    encoder = {each.name: each.state for each in results.columns}[column]
    return FAILED if encoder == FAILED or states == {FAILED} else NOTHING


def _means(
    found: Mapping[str, Summary], columns: Sequence[str], *, with_deviation: bool = False
) -> list[Cell]:
    highest = max((each.mean for each in found.values()), default=None)
    cells = []
    for each in (found.get(column) for column in columns):
        if each is None:
            cells.append(Cell())
            continue
        deviation = each.deviation if with_deviation else None
        mark = "" if each.complete else INCOMPLETE
        best = len(found) > 1 and each.mean == highest
        cells.append(figure(each.mean, deviation, mark=mark, best=best))
    return cells


def _deviations(found: Mapping[str, Summary], columns: Sequence[str]) -> list[Cell]:
    numbers = [found[column].deviation if column in found else None for column in columns]
    known = [number for number in numbers if number is not None]
    return [figure(number, best=len(known) > 1 and number == min(known)) for number in numbers]


def _floor(results: Results, shared: Sequence[str], of: Callable[[Target], float | None]) -> Cell:
    """The average of chance or majority over the targets that the columns are averaged over."""
    numbers = [of(target) for target in results.targets if target.name in shared]
    known = [number for number in numbers if number is not None]
    return figure(fmean(known) if known and len(known) == len(numbers) else None)
