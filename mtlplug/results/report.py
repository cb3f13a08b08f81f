"""What `mtlplug evaluate` prints, in tables or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from mtlplug.pages.table import Cell, Table, figure
from mtlplug.pages.typesetting import new_console, print_table
from mtlplug.pages.wording import plural
from mtlplug.results.compare import CONFIDENCE, Difference
from mtlplug.results.evaluate import Evaluation
from mtlplug.scoring import Detail


def as_json(
    evaluation: Evaluation, errors: int, differences: Sequence[Difference] | None = None
) -> dict[str, Any]:
    """Everything about an evaluation, as JSON-like values."""
    found: dict[str, Any] = {
        "run": str(evaluation.folder),
        "task": evaluation.task.name,
        "format": evaluation.task.format,
        "split": evaluation.split,
        "rows": len(evaluation.rows),
        "headline": evaluation.headline,
        "metrics": dict(evaluation.metrics),
        "details": [
            {"title": each.title, "header": list(each.header), "rows": [*map(list, each.rows)]}
            for each in evaluation.details
        ],
        "by_length": [list(part) for part in evaluation.by_length()],
        "by_repair": [list(part) for part in evaluation.by_repair()],
        "errors": evaluation.errors(errors),
    }
    if differences is not None:
        found["differences"] = [each.as_dict() for each in differences]
    return found


def print_evaluation(
    evaluation: Evaluation,
    errors: int,
    other: Evaluation | None = None,
    differences: Sequence[Difference] = (),
) -> None:
    """Print tables: metrics, the format's details, lengths, repairs, comparison, errors."""
    console = new_console()
    print_table(console, _metrics(evaluation))
    if evaluation.rows_before is not None:
        console.print(
            f"when the run was trained the split had {evaluation.rows_before:,} rows: these scores "
            "are not those of its report",
            highlight=False,
        )
    elif evaluation.changed:
        console.print(
            "the rows of this split, or how they are read, have changed since the run was trained: "
            "these scores need not be those of its report",
            highlight=False,
        )
    for each in evaluation.details:
        if each.rows:  # of a head without mistakes there are no confusions
            print_table(console, _detail(each))
    print_table(console, _parts(evaluation, "tokens", "by length", evaluation.by_length()))
    if repaired := evaluation.by_repair():
        title = "by what was cut, dropped or repaired"
        print_table(console, _parts(evaluation, "rows with", title, repaired))
    if other is not None:
        print_table(console, _differences(evaluation, other, differences))
    _print_errors(console, evaluation, errors)


def print_json(value: Any) -> None:
    """One JSON object on the terminal."""
    print(json.dumps(value, ensure_ascii=False, indent=1))


def _metrics(evaluation: Evaluation) -> Table:
    name = evaluation.headline
    order = [name, *(each for each in evaluation.metrics if each not in (name, "loss")), "loss"]
    cells = [
        figure(evaluation.metrics[each], digits=4 if each == "loss" else 2, best=each == name)
        for each in order
    ]
    title = f"{evaluation.task.name}, {evaluation.split}: {plural(len(evaluation.rows), 'row')}"
    return Table("metrics", title, tuple(order), (tuple(cells),), words=0)


def _detail(detail: Detail) -> Table:
    rows = tuple(tuple(map(_cell, row)) for row in detail.rows)
    words = next((n for n, value in enumerate(detail.rows[0]) if type(value) is not str), 0)
    notes = (detail.note,) if detail.note else ()
    return Table("detail", detail.title, detail.header, rows, notes, words=words)


def _cell(value: str | float | int) -> Cell:
    if isinstance(value, str):
        return Cell(value)
    return figure(value, digits=0 if isinstance(value, int) else 1)


def _parts(
    evaluation: Evaluation, what: str, title: str, parts: Sequence[tuple[str, int, float]]
) -> Table:
    rows = tuple((Cell(name), figure(rows, digits=0), figure(score)) for name, rows, score in parts)
    return Table("parts", title, (what, "rows", evaluation.headline), rows)


def _differences(
    evaluation: Evaluation, other: Evaluation, differences: Sequence[Difference]
) -> Table:
    rows = tuple(
        (
            Cell(each.metric),
            figure(each.ours),
            figure(each.theirs),
            figure(each.difference, signed=True),
            Cell(f"{each.low:+.2f} to {each.high:+.2f}", low=each.low, high=each.high),
            figure(each.p, digits=4),
        )
        for each in differences
    )
    draws = differences[0].draws if differences else 0
    return Table(
        "differences",
        f"{evaluation.folder} against {other.folder}",
        ("metric", "this", "other", "difference", f"{CONFIDENCE:.0%} interval", "p"),
        rows,
        (f"paired bootstrap over rows, {draws:,} draws; p is two-sided",),
    )


def _print_errors(console: Console, evaluation: Evaluation, number: int) -> None:
    found = evaluation.errors(number)
    if not found:
        return
    console.rule("wrong rows with the highest losses", align="left")
    for each in found:
        counts = f"; {each['counted']}" if each["counted"] else ""
        console.print(
            f"[bold]{escape(str(each['where']))}[/bold]  loss {each['loss']:.2f}{counts}",
            highlight=False,
        )
        for name in ("text", "gold", "predicted"):
            console.print(f"  {name:9}  {escape(str(each[name])) or '-'}", highlight=False)
