"""What pre-finetuning cost and what it gave, and which columns can be told apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mtlplug.errors import unknown
from mtlplug.pages.table import Cell, Table, figure
from mtlplug.study.aggregates import averages, grid_of
from mtlplug.study.notes import about_averages
from mtlplug.study.printed import key_of, load_printed
from mtlplug.study.results import BASELINE, Column, Results
from mtlplug.study.statistics import SIGNIFICANT, Comparison, compare, holm, targets_needed


def costs(results: Results) -> Table:
    """Cost of every encoder and its gain over the baseline, as appendix B.3 and beyond.

    Seconds per epoch are of training, hours of the whole run of pre-finetuning, evaluation
    included. Gain is the difference of the averages of Table 1, in points. The paper's ratios
    stand beside where most targets are the paper's.
    """
    grid = grid_of(results)
    targets, columns = [each.name for each in results.targets], list(results.columns)
    names = [each.name for each in columns]
    means = {name: each.mean for name, each in averages(grid, targets, names).items()}
    trained = [column for column in columns if column.name != BASELINE]
    reference = _reference(trained)
    theirs = _paper_ratios(reference, targets)
    rows = []
    for column in trained:
        known = column.name in means and BASELINE in means
        gain = means[column.name] - means[BASELINE] if known else None
        rows.append(_cost(column, reference, theirs, gain, results.price))
    return Table(
        name="costs",
        title=f"{results.suite}: what pre-finetuning cost and gave",
        header=tuple(rows[0]) if rows else ("groups",),
        rows=tuple(tuple(row.values()) for row in rows),
        notes=(
            "s per epoch: of training; hours: until the stopping rule, evaluation included; "
            "gain: points of the average of table 1 over the baseline's",
            *_about_finetuning(results),
            *about_averages(grid, targets, names),
        ),
    )


def _cost(
    column: Column,
    reference: Column | None,
    theirs: Mapping[frozenset[str], float],
    gain: float | None,
    price: float | None,
) -> dict[str, Cell]:
    """The cells of an encoder, by header."""
    hours = None if column.seconds is None else column.seconds / 3600
    cells = {"groups": Cell(column.name), "s per epoch": _measured(column.seconds_per_epoch)}
    if reference:
        cells[f"x {reference.name}"] = figure(_ratio(column, reference))
        if theirs:
            cells[f"x {reference.name} in paper"] = figure(theirs.get(key_of(column.name)))
    cells["epochs"] = figure(column.epochs, digits=0)
    cells["hours"] = _measured(hours)
    cells["tokens"] = figure(column.tokens, digits=0)
    if price is not None:
        cells["money"] = figure(None if hours is None else hours * price)
    cells["gain"] = figure(gain, signed=True)
    per_hour = gain / hours if gain is not None and hours else None
    return {**cells, "gain per hour": _measured(per_hour, signed=True)}


def comparisons(results: Results, pairs: Sequence[tuple[str, str]] | None = None) -> Table:
    """Columns tested against each other over the targets that both have.

    Args:
        results: of a study.
        pairs: names of columns, the one that may be better first; by default every column
            against the baseline.

    Raises:
        MtlplugError: a column does not exist.
    """
    pairs = _pairs(results, pairs)
    grid = grid_of(results)
    targets = [each.name for each in results.targets]
    found: dict[tuple[str, str], Comparison] = {}
    for first, second in pairs:
        rows = [each for each in targets if {(each, first), (each, second)} <= grid.keys()]
        if rows:
            scores = [[grid[row, column].mean for row in rows] for column in (first, second)]
            found[first, second] = compare(*scores)
    corrected = holm({pair: each.p for pair, each in found.items() if each.p is not None})
    header = ("column", "against", "targets", "difference (95 % interval)")
    return Table(
        name="comparisons",
        title=f"{results.suite}: columns compared over targets",
        header=(*header, "better on", "worse on", "p", "p for all", "so"),
        rows=tuple(_compared(pair, found.get(pair), corrected) for pair in pairs),
        notes=(
            "difference of the means over targets, in points, with its bootstrap interval over "
            "targets; p: Wilcoxon's signed-rank test over targets, two-sided",
            f"p for all: corrected for the number of tests, {len(corrected)} (Holm); below "
            f"{SIGNIFICANT} the columns differ",
            *_about_few(list(found.values()), len(corrected)),
        ),
        words=2,
    )


def _pairs(results: Results, pairs: Sequence[tuple[str, str]] | None) -> Sequence[tuple[str, str]]:
    """Those given, or all columns against the baseline."""
    names = [column.name for column in results.columns]
    if pairs is None:
        return [(name, BASELINE) for name in names if name != BASELINE and BASELINE in names]
    for name in (name for pair in pairs for name in pair):
        if name not in names:
            raise unknown("column", name, names)
    return pairs


def _about_few(found: Sequence[Comparison], tests: int) -> list[str]:
    """Says so where too few targets differ for any of the tests to succeed."""
    if all(each.can_tell(tests) for each in found):
        return []
    can = "1 test can" if tests == 1 else f"{tests} tests can all"
    return [
        f"too few targets: {can} go below {SIGNIFICANT} only where {targets_needed(tests)} or more "
        "targets differ"
    ]


def _compared(
    pair: tuple[str, str],
    found: Comparison | None,
    corrected: Mapping[tuple[str, str], float],
) -> tuple[Cell, ...]:
    names = (Cell(pair[0]), Cell(pair[1]))
    if found is None:
        return (*names, figure(0, digits=0), *[Cell()] * 6)
    difference = figure(found.difference, signed=True)
    if found.interval is not None:
        low, high = found.interval.low, found.interval.high
        text = f"{difference.text} ({low:+.2f} to {high:+.2f})"
        difference = Cell(text, found.difference, low=low, high=high)
    p = corrected.get(pair)
    so = "not distinguishable"
    if p is not None and p < SIGNIFICANT:
        so = "differ"
    elif not found.can_tell(len(corrected)):
        so = "too few targets"
    counts = (found.targets, found.better, found.worse)
    targets, better, worse = (figure(number, digits=0) for number in counts)
    return (*names, targets, difference, better, worse, _chance(found.p), _chance(p), Cell(so))


def _chance(p: float | None) -> Cell:
    return Cell() if p is None else Cell(f"{p:.2g}", p)


def _reference(columns: Sequence[Column]) -> Column | None:
    """The cheapest single group, or where none was timed, the cheapest column."""
    timed = [column for column in columns if column.seconds_per_epoch]
    single = [column for column in timed if len(key_of(column.name)) == 1]
    return min(single or timed, key=lambda column: column.seconds_per_epoch or 0, default=None)


def _ratio(column: Column, reference: Column) -> float | None:
    own, other = column.seconds_per_epoch, reference.seconds_per_epoch
    return own / other if own is not None and other else None


def _paper_ratios(reference: Column | None, targets: Sequence[str]) -> dict[frozenset[str], float]:
    """Appendix B.3 as ratios to the same groups; empty where most targets are not the paper's."""
    paper = load_printed()
    shared = {target for target, _ in paper.grid}.intersection(targets)
    if reference is None or len(shared) * 2 < len(targets):
        return {}
    seconds = paper.seconds_per_epoch
    own = seconds.get(key_of(reference.name))
    return {key: value / own for key, value in seconds.items()} if own else {}


def _measured(number: float | None, *, signed: bool = False) -> Cell:
    """A figure of any size, to three digits."""
    size = math.floor(math.log10(abs(number))) if number else 0
    return figure(number, digits=min(max(2 - size, 0), 6), signed=signed)


def _about_finetuning(results: Results) -> list[str]:
    known = [each.seconds for each in results.trials if each.seconds is not None]
    if not known:
        return []
    hours = _measured(sum(known) / 3600).text
    return [f"finetuning took {hours} hours in {len(known):,} runs, which are not in the table"]
