"""The tables of a run: tasks, mix, scores and losses by epoch, cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mtlplug.pages.table import Cell, Table, figure
from mtlplug.pages.wording import counted, duration, plural
from mtlplug.results.records import Record

MOST_EPOCHS = 10
"""Epochs with a column of their own; of more, those at both ends and the best one."""

HEADLINE, LOSS = "headline", "loss"


def all_tables(record: Record) -> list[Table]:
    """All tables of a run, those it has nothing for left out."""
    tables = [
        task_table(record),
        epoch_table(record, HEADLINE),
        epoch_table(record, LOSS),
        cost_table(record),
    ]
    return [table for table in tables if table.rows]


def task_table(record: Record) -> Table:
    """What is trained on: rows, the share of an epoch, what was cut, dropped or repaired."""
    sizes = {name: _train(task) for name, task in record.tasks.items()}
    drawn = {name: _drawn(task) for name, task in record.tasks.items()}
    tokens = {
        name: size["tokens"] * drawn[name] / max(1, size["features"])
        for name, size in sizes.items()
    }
    rows = tuple(
        (
            Cell(name),
            Cell(task["format"]),
            Cell(str(len(task["labels"]) or "-")),
            _count(sizes[name]["rows"]),
            _count(sizes[name]["features"]),
            _percent(drawn[name], sum(drawn.values())),
            _percent(tokens[name], sum(tokens.values())),
            figure(task["weight"], digits=2),
            Cell(counted(sizes[name]["counts"]) or "-"),
        )
        for name, task in record.tasks.items()
    )
    header = ("task", "format", "labels", "rows", "features", "% of epoch", "% of tokens", "weight")
    return Table("tasks", "tasks and mix", (*header, "cut, dropped, repaired"), rows, words=2)


def epoch_table(record: Record, value: str) -> Table:
    """One value of every task by epoch; epoch 0 is before training."""
    epochs = record.epochs
    best = record.best
    if len(epochs) > MOST_EPOCHS:
        ends = (*epochs[: MOST_EPOCHS // 2], *epochs[-MOST_EPOCHS // 2 :])
        epochs = [each for each in epochs if each in ends or each is best]
    digits = 1 if value == HEADLINE else 4
    rows = [
        (
            Cell(name),
            *([Cell(task["metric"])] if value == HEADLINE else []),
            *(
                figure(each.scores.get(name, {}).get(value), digits=digits, best=each is best)
                for each in epochs
            ),
        )
        for name, task in record.tasks.items()
    ]
    if value == LOSS and epochs:
        means = (figure(each.mean_loss, digits=digits, best=each is best) for each in epochs)
        rows.append((Cell("mean"), *means))
    numbers = tuple("untrained" if not each.number else str(each.number) for each in epochs)
    scores = value == HEADLINE
    return Table(
        "scores" if scores else "losses",
        "validation scores by epoch" if scores else "validation losses by epoch",
        ("task", *(["metric"] if scores else []), *numbers),
        tuple(rows) if epochs else (),
        notes=("bold: the epoch with the lowest mean loss, which is kept",) if best else (),
        words=2 if scores else 1,
        rules=() if scores else (len(rows) - 1,),
    )


def cost_table(record: Record) -> Table:
    """Time, tokens and speed; of an unfinished run what its log has."""
    report = record.report
    found: list[tuple[str, str]] = []
    if report is not None:
        seconds: Mapping[str, float] = report["seconds"]
        training = seconds["training"]
        found = [
            ("processes", str(report["world_size"])),
            ("training", duration(training)),
            ("evaluation", duration(seconds["evaluation"])),
            ("epochs", f"{report['epochs']}, best {report['best_epoch']}"),
            ("tokens trained on", f"{report['tokens']:,}"),
            ("tokens per second", f"{report['tokens'] / training:,.0f}" if training else "-"),
            ("time waiting for the loader", f"{100 * report['loader_wait']:.1f} %"),
            ("skipped steps", f"{report['skipped_steps']:,}"),
        ]
    elif record.steps:
        speeds = [s.values.get("tokens_per_second") for s in record.steps]
        known = sorted(speed for speed in speeds if speed)
        found = [("steps", f"{record.steps[-1].number:,} of at most {steps_planned(record):,}")]
        found += [("tokens per second, median", f"{known[len(known) // 2]:,}")] if known else []
    rows = tuple((Cell(name), Cell(value)) for name, value in found)
    return Table("cost", "cost", ("", ""), rows)


def steps_planned(record: Record) -> int:
    """Optimizer steps of all epochs that the run may have."""
    options: Mapping[str, Any] = record.run["options"]
    drawn = sum(_drawn(task) for task in record.tasks.values())
    return math.ceil(drawn / int(options["batch_size"])) * int(options["max_epochs"])


def state_of(record: Record) -> str:
    """How far a run is, in a few words."""
    done = plural(max((each.number for each in record.epochs), default=0), "epoch")
    if record.report is not None:
        return f"complete after {done}, best {record.report['best_epoch']}"
    if not record.epochs:
        return "begun; nothing is scored yet"
    steps = f", {plural(record.steps[-1].number, 'step')}" if record.steps else ""
    return f"not complete: {done}{steps} logged"


def _train(task: Mapping[str, Any]) -> Mapping[str, Any]:
    train: Mapping[str, Any] = task["splits"]["train"]
    return train


def _drawn(task: Mapping[str, Any]) -> int:
    """Features that the first epoch draws; runs of before this was noted draw all."""
    return int(task.get("drawn", _train(task)["features"]))


def _count(number: int) -> Cell:
    return Cell(f"{number:,}", number)


def _percent(part: float, whole: float) -> Cell:
    return figure(100 * part / whole if whole else None, digits=1)
