"""From tasks to stored features: prepare, encode and store every split, once.

A store is keyed by a hash of all that decides its content, built by one process under a lock
while others wait, and put in place by a rename, so that it is there whole or not at all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from mtlplug.data.pieces import Counted, Making, Writing, lock
from mtlplug.data.sources import Source
from mtlplug.data.store import STORE_VERSION, FeatureStore
from mtlplug.data.tokens import Encode
from mtlplug.errors import MtlplugError
from mtlplug.formats import Row, Task, TaskFormat
from mtlplug.plugin_sources import code_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRAIN, VALID = "train", "valid"

SHORTEST = 8
"""Smallest `max_length` that makes sense."""

Tell = Callable[[str, str, int, int | None], None]
"""Takes a task, the split it is at, the rows read so far and, where that is known, their number;
no split once the task is complete.
"""


@dataclass(frozen=True)
class TaskData:
    """A task that is ready to train: its format, its facts learnt, its splits stored."""

    task: Task
    format: TaskFormat
    stores: Mapping[str, FeatureStore]


@dataclass(frozen=True)
class Builder:
    """Builds and opens feature stores.

    Attributes:
        tokenizer: of the encoder that will read the features.
        cache: folder for stores of all tasks and runs.
        max_length: most tokens of a sequence where the task does not say.
        limit: the longest sequence the encoder takes.
        max_rows: most rows of a split; None for all.
        golds: keep the gold of training rows, too, as evaluation needs it.
        wait: wait for what another process is making; else `filelock.Timeout` is raised.
        tell: is told how far the reading of rows is.
    """

    tokenizer: PreTrainedTokenizerBase
    cache: Path
    max_length: int
    limit: int
    max_rows: int | None = None
    golds: bool = False
    wait: bool = True
    tell: Tell | None = None

    def build(self, task: Task, task_format: TaskFormat, splits: Sequence[str]) -> TaskData:
        """Prepare a task and open the stores of these splits, making those that are missing.

        Raises:
            MtlplugError: rows cannot be read or used, or the cache folder cannot be written;
                nothing is left half written.
        """
        try:
            return self._build(task, task_format, splits)
        except MtlplugError as error:
            raise _naming(task, error) from error

    def _build(self, task: Task, task_format: TaskFormat, splits: Sequence[str]) -> TaskData:
        for split in splits:
            if split not in task.sources:
                known = ", ".join(task.sources) or "none"
                raise MtlplugError(
                    f"task '{task.name}' has no split '{split}' (it has: {known}); "
                    "name its file in the suite"
                )
        task, total = self._prepared(task, task_format)
        # How many rows there are is known of the split that the format has learnt from.
        totals = {_learnt_from(task): total}
        stores = {
            split: self._store(task, task_format, split, totals.get(split)) for split in splits
        }
        return TaskData(task, task_format, stores)

    def rows(self, task: Task, split: str) -> Iterator[Row]:
        """The rows of a split that features are made of."""
        return _rows(task, split, self.max_rows)

    def encode(self, task: Task) -> Encode:
        """The tokenizer service for one split of a task."""
        return Encode(self.tokenizer, self.length(task))

    def length(self, task: Task) -> int:
        """Most tokens of a sequence of this task: its own option or the run's, as far as the
        encoder goes.
        """
        wanted = self.wanted_length(task)
        if wanted < SHORTEST:
            raise MtlplugError(
                f"max_length {wanted} of task '{task.name}' leaves no room for text; "
                f"it must be {SHORTEST} or more"
            )
        return min(wanted, self.limit)

    def wanted_length(self, task: Task) -> int:
        """Most tokens of a sequence of this task as options say, whatever the encoder takes."""
        return int(task.options.get("max_length") or self.max_length)

    def prepared(self, task: Task, task_format: TaskFormat) -> Task:
        """The task with the facts its format learns from the training rows."""
        return self._prepared(task, task_format)[0]

    def _prepared(self, task: Task, task_format: TaskFormat) -> tuple[Task, int | None]:
        """The task with its facts, and how many rows it learnt from, where it read them all."""
        split = _learnt_from(task)
        recipe = self._recipe(task, task_format, task.sources[split])
        path = self.cache / "facts" / f"{task.name}-{_digest(recipe)}.json"
        with lock(path, wait=self.wait):
            if not path.exists():
                rows = self._rows(task, split)
                facts = task_format.prepare(task, rows)
                learnt = {"facts": facts, "rows": rows.number if rows.complete else None}
                with Writing(path.parent):
                    _write(path, json.dumps(learnt, ensure_ascii=False))
            known = _read(path)  # as later runs read it: tuples are lists by then
        facts = known["facts"]
        _check_labels(task, split, facts)
        labels = tuple(task.labels or facts.get("labels", ()))
        return dataclasses.replace(task, facts=facts, labels=labels), known["rows"]

    def _store(
        self, task: Task, task_format: TaskFormat, split: str, total: int | None
    ) -> FeatureStore:
        encode = self.encode(task)
        extra = {"golds": True} if self.golds and split == TRAIN else {}
        recipe = self._recipe(task, task_format, task.sources[split]) | {
            "split": split,
            "facts": task.facts,
            "tokenizer": _tokenizer_digest(self.tokenizer),
            "max_length": encode.max_length,
            **extra,
        }
        making = Making(
            folder=self.cache / "features" / f"{task.name}-{split}-{_digest(recipe)}",
            task=task,
            split=split,
            task_format=task_format,
            encode=encode,
            rows=lambda: self._rows(task, split, total),
            references=self.golds or split != TRAIN,
            source=recipe["source"],
        )
        try:
            with lock(making.folder, wait=False):
                making.finish()
        except Timeout:
            making.help()
            with lock(making.folder, wait=self.wait):
                making.finish()
        return FeatureStore(making.folder)

    def _rows(self, task: Task, split: str, total: int | None = None) -> Counted:
        tell = self.tell
        return Counted(
            _rows(task, split, self.max_rows),
            (lambda number: tell(task.name, split, number, total)) if tell else None,
        )

    def _recipe(self, task: Task, task_format: TaskFormat, source: Source) -> dict[str, Any]:
        # One process at a time: a hub dataset is downloaded while its fingerprint is taken.
        with lock(self.cache / "sources" / task.name, wait=self.wait):
            fingerprint = source.fingerprint()
        return {
            "version": STORE_VERSION,
            "format": [task_format.code, task_format.version, _code_of(type(task_format))],
            "options": dict(task.options),
            "labels": list(task.labels),
            "source": fingerprint,
            "max_rows": self.max_rows,
        }


def _learnt_from(task: Task) -> str:
    """The split that a format learns its facts from."""
    return TRAIN if TRAIN in task.sources else next(iter(task.sources))


def _check_labels(task: Task, split: str, facts: Mapping[str, Any]) -> None:
    """Refuse a format's labels where it has learnt none: a head without outputs has no loss.

    Raises:
        MtlplugError: no row has a label.
    """
    if "labels" in facts and not facts["labels"]:
        raise MtlplugError(
            f"{task.sources[split].place}: task '{task.name}' has no training row with a label; "
            "name the column that holds it in the suite, or the labels themselves"
        )


def _naming(task: Task, error: MtlplugError) -> MtlplugError:
    """An error that names the task it happened in."""
    named = f"'{task.name}'" in str(error)
    return error if named else MtlplugError(f"task '{task.name}': {error}")


def _rows(task: Task, split: str, most: int | None) -> Iterator[Row]:
    """The rows of a split; where they are more than `most`, a random sample in their order.

    Always the same sample: the first rows of a file are often of one kind.
    """
    rows = iter(task.sources[split].rows())
    if most is None:
        yield from rows
        return
    draw = random.Random(f"{task.name} {split}")
    kept: list[tuple[int, Row]] = []
    for number, row in enumerate(rows):  # reservoir sampling: one pass, `most` rows in memory
        if number < most:
            kept.append((number, row))
        elif (place := draw.randrange(number + 1)) < most:
            kept[place] = (number, row)
    yield from (row for _, row in sorted(kept, key=lambda each: each[0]))


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    unfinished.rename(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise MtlplugError(f"{path} is damaged; remove it to have it made again") from None
    return facts


def _digest(recipe: Mapping[str, Any]) -> str:
    text = json.dumps(recipe, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    text = f"{type(tokenizer).__name__} {tokenizer.backend_tokenizer.to_str()}"
    return hashlib.sha256(text.encode()).hexdigest()


def _code_of(cls: type) -> str:
    """Hash of the modules a format and those it inherits from are written in.

    So an author's edit builds features anew.
    """
    return code_digest(cls.__mro__[: cls.__mro__.index(TaskFormat)])
