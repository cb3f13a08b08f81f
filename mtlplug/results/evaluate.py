"""Predictions of a finished run on a split: official metrics, and what they depend on.

Shapes: N rows, K counts of a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import numpy.typing as npt

from mtlplug.data.build import Builder, TaskData
from mtlplug.data.suites import load_suite
from mtlplug.errors import MtlplugError
from mtlplug.formats import Row, Task, TaskFormat
from mtlplug.inference.trained import TrainedRun, open_run
from mtlplug.model.flops import encoder_flops
from mtlplug.pages.wording import counted
from mtlplug.plugin_manager import load_plugins
from mtlplug.scoring import Detail
from mtlplug.training.evaluation import Evaluator
from mtlplug.workspace import cache_folder
from mtlplug.world import World

LENGTH_PARTS = 4
"""Parts of equally many rows into which rows are sorted by length."""


@dataclass(frozen=True)
class ScoredRow:
    """One row with what was predicted for it.

    Attributes:
        where: file and line.
        text: its columns but the last of the format's, which is the gold; shortened.
        tokens: of its features.
        counts: what was cut, dropped or repaired in it.
        loss: mean over its features.
        predictions, references: of its features.
    """

    where: str
    text: str
    tokens: int
    counts: Mapping[str, int]
    loss: float
    predictions: tuple[Any, ...]
    references: tuple[Any, ...]


@dataclass(frozen=True)
class Evaluation:
    """A run's head on a split of its task.

    Attributes:
        folder: of the run.
        task: prepared.
        format: its format.
        split: that was scored.
        metrics: official ones, with `loss`.
        rows: those that became features, in order.
        details: tables of the format.
        rows_before: of the split when the run was trained, where it has another number now.
        changed: its rows, or how they are read, are others than when the run was trained.
    """

    folder: Path
    task: Task
    format: TaskFormat
    split: str
    metrics: Mapping[str, float]
    rows: Sequence[ScoredRow]
    details: Sequence[Detail]
    rows_before: int | None = None
    changed: bool = False

    @property
    def headline(self) -> str:
        """Name of the metric that ranks."""
        return self.task.metric or self.format.headline

    @cached_property
    def counts_NK(self) -> npt.NDArray[Any] | None:
        """The format's counts of each row, where the metrics follow from their sum."""
        counts = self.format.row_counts(
            self.task,
            [row.predictions for row in self.rows],
            [row.references for row in self.rows],
        )
        if counts is None:
            return None
        mine = self.format.metrics_of_counts(self.task, counts.sum(0))
        if any(abs(mine[name] - self.metrics[name]) > 1e-6 for name in mine):
            raise MtlplugError(
                f"format {self.format.code} counts rows in a way that gives other metrics "
                f"({mine}) than its own ({dict(self.metrics)}); this is a fault of the format"
            )
        return counts

    def metrics_of(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> dict[str, float]:
        """Metrics of some of the rows; one that is named twice counts twice."""
        if self.counts_NK is not None:
            return self.format.metrics_of_counts(self.task, self.counts_NK[rows].sum(0))
        chosen = [self.rows[number] for number in rows]
        return self.format.metrics(
            self.task,
            [each for row in chosen for each in row.predictions],
            [each for row in chosen for each in row.references],
        )

    def by_length(self) -> list[tuple[str, int, float]]:
        """Tokens, rows and headline score of parts of equally many rows."""
        order = np.argsort([row.tokens for row in self.rows], kind="stable")
        parts = [part for part in np.array_split(order, LENGTH_PARTS) if len(part)]
        return [
            (
                f"{self.rows[part[0]].tokens} to {self.rows[part[-1]].tokens}",
                len(part),
                self.metrics_of(part)[self.headline],
            )
            for part in parts
        ]

    def by_repair(self) -> list[tuple[str, int, float]]:
        """What was cut, dropped or repaired, in how many rows, and the score of these."""
        kinds = sorted({kind for row in self.rows for kind in row.counts})
        rows = list(enumerate(self.rows))
        found = {kind: [n for n, row in rows if kind in row.counts] for kind in kinds}
        if kinds:
            found["nothing"] = [n for n, row in rows if not row.counts]
        return [
            (kind, len(numbers), self.metrics_of(numbers)[self.headline])
            for kind, numbers in found.items()
            if numbers
        ]

    def errors(self, number: int) -> list[dict[str, str | float]]:
        """The wrong rows with the highest losses: place, gold and prediction."""
        found: list[dict[str, str | float]] = []
        for row in sorted(self.rows, key=lambda row: -row.loss):
            if len(found) == number:
                break
            wanted, given = self.format.wanted_and_given(self.task, row.predictions, row.references)
            if wanted != given:
                found.append(
                    {
                        "where": row.where,
                        "text": row.text,
                        "gold": wanted,
                        "predicted": given,
                        "loss": row.loss,
                        "counted": counted(row.counts),
                    }
                )
        return found


def evaluate_run(
    folder: Path,
    task: str,
    split: str = "valid",
    *,
    suite: str | None = None,
    data: Path | None = None,
    cache: Path | None = None,
    all_rows: bool = False,
) -> Evaluation:
    """Predict a split with a finished run and score it.

    Args:
        folder: of the run.
        task: one of its tasks.
        split: of that task.
        suite: where the task is now; as in the run where None.
        data: folder that the suite's paths start from; as in the run where None.
        cache: of stored features; the usual one where None.
        all_rows: score rows that `max_rows_per_task` of the run leaves out, too.

    Raises:
        MtlplugError: there is no such run, task or split, or its rows cannot be read.
    """
    run = open_run(folder, [task])
    options = run.run["options"]
    builder = replace(run.builder(cache or cache_folder()), golds=True)
    if not all_rows:
        builder = replace(builder, max_rows=options["max_rows_per_task"])
    found = _with_sources(run.tasks[task], options, suite, data)
    task_format = run.formats[task]
    built = builder.build(found, task_format, [split])
    # As the run prepared it: labels and facts of rows that may have changed since are not used.
    built = TaskData(replace(built.task, facts=found.facts, labels=found.labels), task_format,
                     built.stores)  # fmt: skip
    results = _predict(run, built, split, int(options["max_tokens"]))
    store = built.stores[split]
    before = run.run["tasks"][task]["splits"].get(split, {})
    rows_before = before.get("rows")
    sources = {before.get("fingerprint"), store.meta.get("source")} - {None}  # older code kept none
    references = [store.reference(number) for number in range(len(store))]
    predictions = [results[number][1] for number in range(len(store))]
    metrics = task_format.metrics(built.task, predictions, references)
    loss = float(np.mean([results[number][0] for number in range(len(store))]))
    rows = _rows(builder, built, split, [results[n] for n in range(len(store))], references)
    details = task_format.detail(built.task, predictions, references)
    return Evaluation(
        folder,
        built.task,
        task_format,
        split,
        {"loss": loss, **metrics},
        rows,
        details,
        rows_before if rows_before != store.meta["rows"] and not all_rows else None,
        len(sources) > 1,
    )


def _with_sources(
    task: Task, options: Mapping[str, Any], suite: str | None, data: Path | None
) -> Task:
    """The task with the places of its rows, which `run.json` does not hold."""
    where = Path(options["data"]) if options.get("data") else None
    plugins = load_plugins()
    loaded = load_suite(
        suite or options["suite"],
        plugins.formats,
        data or where,
        registry=plugins.registry,
        changes=options.get("tasks") if suite is None else None,
    )
    if task.name not in loaded.tasks:
        raise MtlplugError(
            f"suite '{loaded.name}' has no task '{task.name}' any more; name the one it is in "
            "with --suite"
        )
    return replace(task, sources=loaded.tasks[task.name].sources)


def _predict(
    run: TrainedRun, data: TaskData, split: str, max_tokens: int
) -> Mapping[int, tuple[float, Any]]:
    """Loss and prediction of each feature."""
    world = World(0, 1, run.device)
    evaluator = Evaluator(
        [data], split, max_tokens, world, pair_cost=encoder_flops(run.encoder).pair_cost
    )
    return evaluator.predict(run.model)[0]


def _rows(
    builder: Builder,
    data: TaskData,
    split: str,
    results: Sequence[tuple[float, Any]],
    references: Sequence[Any],
) -> list[ScoredRow]:
    """Which features are of which row: every row is made into features once more, by itself."""
    found, first = [], 0
    for row in builder.rows(data.task, split):
        encode = builder.encode(data.task)
        features = list(data.format.features(data.task, [row], encode))
        end = first + len(features)
        if not features:
            continue
        mine = results[first:end]
        found.append(
            ScoredRow(
                where=row.where,
                text=_text(row, data.format.columns[:-1]),
                tokens=sum(len(part) for each in features for part in each.sequences),
                counts=dict(encode.counts),
                loss=float(np.mean([loss for loss, _ in mine])),
                predictions=tuple(prediction for _, prediction in mine),
                references=tuple(references[first:end]),
            )
        )
        first = end
    if first != len(results):
        raise MtlplugError(
            f"split '{split}' of task '{data.task.name}' gives {first} features row by row and "
            f"{len(results)} together; format {data.format.code} must make features of each row "
            "by itself"
        )
    return found


def _text(row: Row, columns: Sequence[str]) -> str:
    """The texts and lists of words in these columns of a row, or in all, shortened."""
    values = [row.get(name) for name in columns or row]
    texts = (" ".join(map(str, each)) if isinstance(each, list) else each for each in values)
    return shorten(" | ".join(each for each in texts if isinstance(each, str)), 300)
