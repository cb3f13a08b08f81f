"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from mtlplug.data.build import TaskData
from mtlplug.model.vocabulary import UsedRows
from mtlplug.pages.table import Table, figure, row_of
from mtlplug.pages.wording import notes

SECONDS_BETWEEN_LINES = 10.0
"""How often a line is printed where there is no terminal."""


class BuildDisplay:
    """Shows how far the building of features is: a bar on a terminal, nothing elsewhere."""

    def __init__(self, console: Console, tasks: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[done]}"),
            TimeElapsedColumn(),
            _RowsLeft(),
            console=console,
            disable=console.quiet or not console.is_terminal,
            transient=True,
        )
        self._all = self._progress.add_task("reading tasks", total=tasks, done=f"0 of {tasks}")
        self._tasks = tasks
        self._lines: dict[str, TaskID] = {}
        self._at: dict[str, tuple[str, int | None]] = {}
        self._rows: dict[str, int] = {}
        self._complete: set[str] = set()

    def __enter__(self) -> BuildDisplay:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def tell(self, task: str, split: str, rows: int, total: int | None = None) -> None:
        """A task is at this split and has read so many rows, of `total` where that is known;
        without a split it is complete.

        Several processes may read one split; the bar shows the one that is farthest.
        """
        if task in self._complete:
            return
        if split:
            if self._at.get(task) != (split, total):
                self._remove(task)
                self._at[task] = split, total
                self._rows[task] = 0
                self._lines[task] = self._progress.add_task(task, total=total, done="")
            rows = self._rows[task] = max(rows, self._rows[task])
            done = f"{split}: {rows:,} rows" + (f" of {total:,}" if total else "")
            self._progress.update(self._lines[task], completed=rows, done=done)
        else:
            self._complete.add(task)
            self._remove(task)
            done = f"{len(self._complete)} of {self._tasks}"
            self._progress.update(self._all, completed=len(self._complete), done=done)

    def _remove(self, task: str) -> None:
        if task in self._lines:
            self._progress.remove_task(self._lines.pop(task))


class _RowsLeft(TimeRemainingColumn):
    """The time left for rows; tasks are of different sizes, so that theirs would mislead."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.id and task.total else Text()


class Display:
    """Shows one run to a person; rank 0 only."""

    def __init__(self, console: Console, total_steps: int) -> None:
        self.console = console
        self.total_steps = total_steps
        self._line_at = time.monotonic()
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("loss {task.fields[loss]}  {task.fields[speed]} tokens/s"),
                TimeRemainingColumn(),
                console=console,
            )
            self._bar.add_task("epoch 1", total=total_steps, loss="-", speed="-")

    def __enter__(self) -> Display:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def resume(self, epoch: int, step: int, refused: Sequence[str]) -> None:
        """At the start of a run that goes on, in an epoch, after `step` of all steps."""
        for problem in refused:
            self.tell(f"not used: {problem}")
        self.tell(f"resuming after step {step}, in epoch {epoch + 1}")
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=step)

    def tell(self, sentence: str) -> None:
        """Print a sentence on a line of its own."""
        self.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def evaluating(self) -> None:
        """While the validation splits are scored."""
        if self._bar:
            self._bar.update(self._bar.task_ids[0], description="evaluating")

    def step(self, epoch: int, step: int, loss: float, speed: float) -> None:
        """After some steps: `step` of all, the mean loss since the last call, tokens/s."""
        if self._bar:
            self._bar.update(
                self._bar.task_ids[0],
                completed=step,
                description=f"epoch {epoch + 1}",
                loss=f"{loss:.4f}",
                speed=f"{speed:,.0f}",
            )
        elif time.monotonic() - self._line_at >= SECONDS_BETWEEN_LINES or step == self.total_steps:
            self._line_at = time.monotonic()
            self.console.print(
                f"epoch {epoch + 1}  step {step}/{self.total_steps}  loss {loss:.4f}  "
                f"{speed:,.0f} tokens/s",
                highlight=False,
                soft_wrap=True,
            )

    def epoch(self, epoch: int, scores: Mapping[str, Mapping[str, float]], note: str) -> None:
        """After an epoch's evaluation."""
        each = "  ".join(f"{task} {result['headline']:.1f}" for task, result in scores.items())
        line = f"epoch {epoch + 1} validation: {note}  {each}"
        self.console.print(line, highlight=False, soft_wrap=True)


def data_table(data: Sequence[TaskData]) -> Table:
    """What is trained on: rows, features, tokens, and what was cut, dropped or repaired."""
    rows = []
    for each in data:
        train = each.stores["train"].meta
        rows.append(
            row_of(
                each.task.name,
                each.task.format,
                str(len(each.task.labels) or "-"),
                f"{train['rows']:,}",
                f"{train['features']:,}",
                f"{train['tokens']:,}",
                f"{each.stores['valid'].meta['rows']:,}",
                notes(each.task.facts, train["counts"]),
            )
        )
    header = ("task", "format", "labels", "rows", "features", "tokens", "valid rows")
    found = (*header, "found, cut, dropped, repaired")
    return Table("tasks", "tasks", found, tuple(rows), words=3, remarks=1)


def vocabulary_line(rows: UsedRows) -> str:
    """How much of the vocabulary is trained."""
    trained, of = rows.counts["rows"], rows.counts["of"]
    return f"vocabulary: {trained:,} of {of:,} rows occur in these tasks and are trained"


def score_table(report: Mapping[str, Any]) -> Table:
    """The scores of the best epoch beside those of the first, by task."""
    rows = tuple(
        (
            *row_of(name, result["format"], result["metric"]),
            figure(result["untrained"], digits=1),
            figure(result["first"], digits=1),
            figure(result["score"], digits=1, best=True),
            figure(result["loss"], digits=4),
        )
        for name, result in report["tasks"].items()
    )
    header = ("task", "format", "metric", "untrained", "first epoch", "best epoch", "loss")
    title = f"validation scores, epoch {report['best_epoch']}"
    return Table("scores", title, header, rows, words=3)
