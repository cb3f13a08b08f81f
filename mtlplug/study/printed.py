"""The figures printed in the paper: what follows from what, and how ours look beside them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from mtlplug.pages.table import INCOMPLETE, NOTHING, WRONG, Cell, Table, figure
from mtlplug.study.aggregates import Grid, Summary, averages, grid_of, shared_targets
from mtlplug.study.results import BASELINE, Results
from mtlplug.study.statistics import NOISE

MEANS, DEVIATIONS = 1e-3, 1e-2
"""Unit of the last place in Table 1. Some figures there are cut off, not rounded (52.166 for
52 1/6), so a printed figure is within one unit of what it stands for; so is a mean of such."""


@dataclass(frozen=True)
class Printed:
    """Tables 1 and 2 and appendix B.3.

    Attributes:
        title, model: of the paper and its encoder.
        seeds: that means and deviations are over.
        columns: in the order of Table 1, named as in a study.
        groups: names of the targets of each.
        grid: Table 1 without its averages.
        average, average_deviation: last rows of Table 1, by column.
        by_group: rows of Table 2 without its average.
        group_average: last row of Table 2, by column.
        seconds_per_epoch: appendix B.3, by the set of groups.
    """

    title: str
    model: str
    seeds: int
    columns: tuple[str, ...]
    groups: Mapping[str, Sequence[str]]
    grid: Grid
    average: Mapping[str, float]
    average_deviation: Mapping[str, float]
    by_group: Grid
    group_average: Mapping[str, float]
    seconds_per_epoch: Mapping[frozenset[str], float]


@dataclass(frozen=True)
class Check:
    """A printed aggregate against the printed figures that it is said to be made of.

    Attributes:
        table, row, column: where it is printed.
        source: what it is computed from.
        printed: as in the paper.
        computed: from the source, by the code that makes our tables.
        follows: whether they agree as far as printed places can say.
    """

    table: str
    row: str
    column: str
    source: str
    printed: float
    computed: float
    follows: bool


def key_of(column: str) -> frozenset[str]:
    """The groups of a column, whatever their order.

    >>> key_of("SL+C+QA") == key_of("SL+QA+C")
    True
    """
    return frozenset(column.split("+"))


@cache
def load_printed() -> Printed:
    """Read the figures from the files that come with the package."""
    values = _read("mtlplug.study")
    columns = tuple(values["columns"])
    means, deviations = values["table_1"]["mean"], values["table_1"]["deviation"]
    grid = {
        (target, column): Summary(mean, deviation)
        for target in means
        for column, mean, deviation in zip(columns, means[target], deviations[target], strict=True)
    }
    by_group = {
        (group, column): Summary(mean)
        for group, row in values["table_2"]["mean"].items()
        for column, mean in zip(columns, row, strict=True)
    }
    last_1, last_2 = values["table_1"]["aggregates"], values["table_2"]["aggregates"]
    seconds = _read("mtlplug.bench")["epoch_seconds"]
    return Printed(
        title=values["title"],
        model=values["model"],
        seeds=values["seeds"],
        columns=columns,
        groups=values["groups"],
        grid=grid,
        average=dict(zip(columns, last_1["average"], strict=True)),
        average_deviation=dict(zip(columns, last_1["average_deviation"], strict=True)),
        by_group=by_group,
        group_average=dict(zip(columns, last_2["average"], strict=True)),
        seconds_per_epoch={key_of(groups): value for groups, value in seconds.items()},
    )


def _read(package: str) -> dict[str, Any]:
    text = files(package).joinpath("padmakumar2022.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def check_printed(printed: Printed | None = None) -> list[Check]:
    """Compute every printed aggregate again, from the printed figures it is said to be made of.

    Args:
        printed: figures to check; by default the paper's.
    """
    paper = printed or load_printed()
    columns = paper.columns
    targets = [name for names in paper.groups.values() for name in names]
    rows = averages(paper.grid, targets, columns)
    source = f"{len(targets)} rows of Table 1"
    checks = _checks(("Table 1", "Average", source), paper.average, _means(rows), MEANS)
    deviations = {c: each.deviation for c, each in rows.items() if each.deviation is not None}
    place = ("Table 1", "Average Std. Dev.", source)
    checks += _checks(place, paper.average_deviation, deviations, DEVIATIONS)
    for group, names in paper.groups.items():
        place = ("Table 2", f"Unseen {group}", f"{len(names)} rows of Table 1")
        said = {column: paper.by_group[group, column].mean for column in columns}
        checks += _checks(place, said, _means(averages(paper.grid, names, columns)), MEANS)
    place = ("Table 2", "Average", f"{len(paper.groups)} rows of Table 2")
    of_groups = averages(paper.by_group, list(paper.groups), columns)
    return checks + _checks(place, paper.group_average, _means(of_groups), MEANS)


def _means(found: Mapping[str, Summary]) -> dict[str, float]:
    return {column: each.mean for column, each in found.items()}


def _checks(
    place: tuple[str, str, str],
    printed: Mapping[str, float],
    computed: Mapping[str, float],
    unit: float,
) -> list[Check]:
    """The checks of a printed row; `place` is its table, its name and its source."""
    table, row, source = place
    return [
        Check(table, row, column, source, said, computed[column],
              follows=abs(computed[column] - said) <= unit + NOISE)
        for column, said in printed.items()
    ]  # fmt: skip


def printed_checks(printed: Printed | None = None) -> Table:
    """The checks as a table: every printed aggregate, and below it what its source gives."""
    paper = printed or load_printed()
    checks = check_printed(paper)
    rows: list[tuple[Cell, ...]] = []
    for table, row, source in dict.fromkeys((c.table, c.row, c.source) for c in checks):
        of = [each for each in checks if (each.table, each.row) == (table, row)]
        said = [figure(c.printed, digits=3, mark="" if c.follows else WRONG) for c in of]
        rows.append((Cell(f"{table}, {row}"), Cell("printed"), *said))
        rows.append((Cell(""), Cell(source), *(figure(c.computed, digits=3) for c in of)))
    return Table(
        name="printed_checks",
        title=f"{paper.title}: do the printed aggregates follow?",
        header=("aggregate", "figures", *paper.columns),
        rows=tuple(rows),
        notes=(
            f"{WRONG} does not follow from the figures it is said to be the mean of, whether these "
            "were rounded or cut off",
        ),
        words=2,
        rules=tuple(range(2, len(rows), 2)),
    )


def beside(results: Results) -> Table | None:
    """The paper's figures beside ours, for the targets and columns that both have.

    Averages are over the same targets on both sides, so they are not the paper's printed ones.
    None where nothing is shared.
    """
    paper = load_printed()
    ours = grid_of(results)
    by_key = {key_of(column): column for column in paper.columns}
    pairs = [(c.name, by_key[key_of(c.name)]) for c in results.columns if key_of(c.name) in by_key]
    known = {target for target, _ in paper.grid}
    targets = [each.name for each in results.targets if each.name in known]
    if not targets or not pairs:
        return None
    rows = []
    for target in targets:
        cells = [Cell(target)]
        for here, there in pairs:
            cells += [_shown(paper.grid[target, there]), _shown(ours.get((target, here)))]
        rows.append(tuple(cells))
    mine, theirs = [here for here, _ in pairs], [there for _, there in pairs]
    shared = shared_targets(ours, targets, mine)
    found = averages(paper.grid, shared, theirs), averages(ours, shared, mine)
    rows += _average_rows(*found, pairs)
    header = [f"{here}, {whose}" for here, _ in pairs for whose in ("paper", "here")]
    return Table(
        name="beside",
        title=f"{results.suite}: the paper's figures beside ours",
        header=("target", *header),
        rows=tuple(rows),
        notes=_about_both(paper, results, shared, targets),
        rules=(len(targets),),
    )


def _shown(summary: Summary | None) -> Cell:
    if summary is None:
        return Cell(NOTHING)
    mark = "" if summary.complete else INCOMPLETE
    return figure(summary.mean, summary.deviation, mark=mark)


def _average_rows(
    theirs: Mapping[str, Summary], ours: Mapping[str, Summary], pairs: Sequence[tuple[str, str]]
) -> list[tuple[Cell, ...]]:
    """Averages, and what they are above the baseline's."""
    means, gains = [Cell("average")], [Cell("gain over baseline")]
    for here, there in pairs:
        for side, column in ((theirs, there), (ours, here)):
            mean, start = side.get(column), side.get(BASELINE)
            means.append(figure(mean.mean if mean else None))
            gain = mean.mean - start.mean if mean and start and column != BASELINE else None
            gains.append(figure(gain, signed=True))
    return [tuple(means), tuple(gains)]


def _about_both(
    paper: Printed, results: Results, shared: Sequence[str], targets: Sequence[str]
) -> tuple[str, ...]:
    checks = check_printed(paper)
    wrong = [each for each in checks if not each.follows]
    in_table_2 = [each for each in wrong if each.table == "Table 2"]
    notes = [
        f"paper: {paper.title}, {paper.model}, {paper.seeds} seeds; here: {results.model}, "
        f"{len(results.seeds)} seeds",
        f"averages: over the {len(shared)} of {len(targets)} targets that all columns with scores "
        "have, computed on both sides by the same code",
        "the paper's own aggregates are not shown, because its Table 2 does not follow from its "
        f"Table 1: {len(in_table_2)} figures of Table 2 and {len(wrong) - len(in_table_2)} "
        "averages of Table 1 are not the means of their rows",
    ]
    if any(not each.complete for each in grid_of(results).values()):
        notes.append(f"{INCOMPLETE} fewer than {len(results.seeds)} seeds")
    return tuple(notes)
