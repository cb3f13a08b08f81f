"""What the report page shows, as plain values: rows of the heat map, details, failures, facts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from mtlplug.pages.table import INCOMPLETE, NOTHING, SAME, UNJUDGED
from mtlplug.pages.wording import MINUS, folded, score, signed
from mtlplug.study.aggregates import Summary, unjudged
from mtlplug.study.findings import Study
from mtlplug.study.results import BASELINE, FAILED, Column, Results, Target, Trial

EDGES = (0.5, 2.0, 5.0, 10.0)
"""Points of difference at which the colour of the heat map gets stronger; the same in every
study, so that two pages can be compared."""


@dataclass(frozen=True)
class HeatCell:
    """A target with a column.

    Attributes:
        place: of its details on the page.
        mean, deviation: as text; empty where there is none.
        shade: class of its colour.
        marks: that the legend explains.
        difference: to the baseline, with sign; empty for the baseline.
        spoken: what colour and marks say, in words.
    """

    place: str
    mean: str
    deviation: str
    shade: str
    marks: str
    difference: str
    spoken: str


@dataclass(frozen=True)
class HeatRow:
    """A target and its cells; `first` of its group or not."""

    place: str
    target: Target
    first: bool
    cells: list[HeatCell]


@dataclass(frozen=True)
class Detail:
    """Every run of a target with a column."""

    place: str
    column: Column
    summary: Summary | None
    rate: float | None
    trials: list[Trial]

    @property
    def script(self) -> str:
        """The commands that repeat the runs, each under a comment that says which it is."""
        return "\n".join(
            f"# rate {each.rate:g}, seed {each.seed}\n{folded(each.command)}"
            for each in self.trials
            if each.command
        )


@dataclass(frozen=True)
class Failure:
    """A run that failed: what it was and why."""

    what: str
    cell: str
    error: str
    command: str

    @property
    def line(self) -> str:
        """The last line of the error, which says what it was."""
        lines = self.error.strip().splitlines()
        return lines[-1].strip() if lines else "no message; see its log"


def shade(difference: float | None) -> str:
    """The class of a difference to the baseline.

    >>> shade(0.2), shade(3.0), shade(-12.5), shade(None)
    ('z', 'p2', 'n4', 'none')
    """
    if difference is None:
        return "none"
    level = sum(abs(difference) >= edge for edge in EDGES)
    return f"{'p' if difference > 0 else 'n'}{level}" if level else "z"


def scale() -> list[tuple[str, str]]:
    """Class and meaning of every colour, from far below to far above."""
    sides = []
    for side, sign in (("n", -1.0), ("p", 1.0)):
        ends = [f"{sign * edge:+g}".replace("-", MINUS) for edge in EDGES]
        words = [f"{low} to {high}" for low, high in pairwise(ends)] + [f"{ends[-1]} and beyond"]
        sides.append([(f"{side}{level}", word) for level, word in enumerate(words, 1)])
    return [*reversed(sides[0]), ("z", f"within {EDGES[0]:g}"), *sides[1]]


def heat_rows(study: Study) -> list[HeatRow]:
    """The heat map, row by row."""
    rows, group = [], None
    for number, target in enumerate(study.results.targets):
        cells = [
            _heat_cell(study, target.name, column, f"t{number}c{place}")
            for place, column in enumerate(study.results.columns)
        ]
        rows.append(HeatRow(f"t{number}", target, target.group != group, cells))
        group = target.group
    return rows


def _heat_cell(study: Study, target: str, column: Column, place: str) -> HeatCell:
    summary = study.grid.get((target, column.name))
    if summary is None:
        states = {each.state for each in study.results.of(target, column.name)}
        failed = column.state == FAILED or states == {FAILED}
        word = FAILED if failed else NOTHING
        return HeatCell(place, word, "", "none", "", "", "" if failed else "no score yet")
    baseline = study.grid.get((target, BASELINE))
    compared = column.name != BASELINE and baseline is not None
    difference = summary.mean - baseline.mean if compared and baseline else None
    marks = SAME * (summary.differs is False) + INCOMPLETE * (not summary.complete)
    marks += UNJUDGED * unjudged(study.grid, target, column.name)
    return HeatCell(
        place=place,
        mean=score(summary.mean),
        deviation="" if summary.deviation is None else score(summary.deviation),
        shade="base" if column.name == BASELINE else shade(difference),
        marks=marks,
        difference="" if difference is None else signed(difference),
        spoken=_spoken(summary, difference),
    )


def _spoken(summary: Summary, difference: float | None) -> str:
    """Colour and marks in words, for those who see neither."""
    parts = [] if difference is None else [f"{signed(difference)} points against the baseline"]
    if difference is not None:
        words = {True: "distinguishable", False: "not distinguishable", None: "cannot be judged"}
        parts.append(words[summary.differs])
    parts += [] if summary.complete else ["not all seeds"]
    return ", ".join(parts)


def details(study: Study, row: HeatRow) -> Iterator[Detail]:
    """Every column of a target with its runs, the chosen rate's first."""
    for cell, column in zip(row.cells, study.results.columns, strict=True):
        key = (row.target.name, column.name)
        rate = study.results.chosen_rate(*key)
        trials = sorted(
            study.results.of(*key), key=lambda each: (each.rate != rate, -each.rate, each.seed)
        )
        yield Detail(cell.place, column, study.grid.get(key), rate, trials)


def failures(results: Results) -> list[Failure]:
    """Everything that failed: encoders first."""
    found = [
        Failure(f"encoder {each.name}", each.cell, each.error, each.command)
        for each in results.columns
        if each.state == FAILED
    ]
    return found + [
        Failure(
            f"{each.target} with {each.column}, rate {each.rate:g}, seed {each.seed}",
            each.cell,
            each.error,
            each.command,
        )
        for each in results.trials
        if each.state == FAILED
    ]
