"""From tasks to stored features: prepare, encode and store every split, once.

A store is keyed by a hash of all that decides its content, built by one process under a lock
while others wait, and put in place by a rename, so that it is there whole or not at all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from mtlplug.data.sources import Source
from mtlplug.data.store import META, STORE_VERSION, FeatureStore, FeatureWriter
from mtlplug.data.tokens import Encode
from mtlplug.errors import MtlplugError
from mtlplug.formats import Row, Task, TaskFormat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRAIN = "train"

SHORTEST = 8
"""Smallest `max_length` that makes sense."""

ROWS_BETWEEN = 256
"""Rows after which progress is told."""


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
        wait: wait for what another process is making; else `filelock.Timeout` is raised.
        tell: is told task, split and rows read so far, as features are made.
    """

    tokenizer: PreTrainedTokenizerBase
    cache: Path
    max_length: int
    limit: int
    max_rows: int | None = None
    wait: bool = True
    tell: Callable[[str, str, int], None] | None = None

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
        length = self.length(task)
        task = self.prepared(task, task_format)
        stores = {split: self._store(task, task_format, split, length) for split in splits}
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
        wanted = int(task.options.get("max_length") or self.max_length)
        if wanted < SHORTEST:
            raise MtlplugError(
                f"max_length {wanted} of task '{task.name}' leaves no room for text; "
                f"it must be {SHORTEST} or more"
            )
        return min(wanted, self.limit)

    def prepared(self, task: Task, task_format: TaskFormat) -> Task:
        """The task with the facts its format learns from the training rows."""
        split = TRAIN if TRAIN in task.sources else next(iter(task.sources))
        recipe = self._recipe(task, task_format, task.sources[split])
        path = self.cache / "facts" / f"{task.name}-{_digest(recipe)}.json"
        with self._lock(path):
            if not path.exists():
                learnt = task_format.prepare(task, self._rows(task, split))
                with _Writing(path.parent):
                    _write(path, json.dumps(learnt, ensure_ascii=False))
            facts = _read(path)  # as later runs read it: tuples are lists by then
        labels = tuple(task.labels or facts.get("labels", ()))
        return dataclasses.replace(task, facts=facts, labels=labels)

    def _store(self, task: Task, task_format: TaskFormat, split: str, length: int) -> FeatureStore:
        recipe = self._recipe(task, task_format, task.sources[split]) | {
            "split": split,
            "facts": task.facts,
            "tokenizer": _tokenizer_digest(self.tokenizer),
            "max_length": length,
        }
        folder = self.cache / "features" / f"{task.name}-{split}-{_digest(recipe)}"
        with self._lock(folder):
            if not (folder / META).exists():
                self._write_store(folder, task, task_format, split)
        return FeatureStore(folder)

    def _write_store(self, folder: Path, task: Task, task_format: TaskFormat, split: str) -> None:
        unfinished = folder.with_name(folder.name + ".tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        encode = self.encode(task)
        rows = self._rows(task, split)
        writing = _Writing(folder.parent)
        with writing:
            writer = FeatureWriter(unfinished, references=split != TRAIN)
        try:
            for feature in task_format.features(task, rows, encode):
                with writing:
                    writer.add(feature)
            if not len(writer):
                raise MtlplugError(
                    f"split '{split}' of task '{task.name}' has no usable row "
                    f"({rows.number} read); counted: {dict(encode.counts) or 'nothing'}"
                )
            with writing:
                writer.close({"rows": rows.number, "counts": dict(encode.counts)})
        except BaseException:
            writer.abandon()
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        with writing:
            unfinished.rename(folder)

    def _rows(self, task: Task, split: str) -> _Counted:
        tell = self.tell
        return _Counted(
            _rows(task, split, self.max_rows),
            (lambda number: tell(task.name, split, number)) if tell else None,
        )

    @contextmanager
    def _lock(self, path: Path) -> Iterator[None]:
        """Hold a lock beside a file or folder that is about to be made."""
        lock = FileLock(path.with_name(path.name + ".lock"), timeout=-1 if self.wait else 0)
        with _Writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _recipe(self, task: Task, task_format: TaskFormat, source: Source) -> dict[str, Any]:
        # One process at a time: a hub dataset is downloaded while its fingerprint is taken.
        with self._lock(self.cache / "sources" / task.name):
            fingerprint = source.fingerprint()
        return {
            "version": STORE_VERSION,
            "format": [task_format.code, task_format.version, _code_digest(type(task_format))],
            "options": dict(task.options),
            "labels": list(task.labels),
            "source": fingerprint,
            "max_rows": self.max_rows,
        }


def _naming(task: Task, error: MtlplugError) -> MtlplugError:
    """An error that names the task it happened in."""
    named = f"'{task.name}'" in str(error)
    return error if named else MtlplugError(f"task '{task.name}': {error}")


class _Writing:
    """Turns what a full, read-only or odd disk says into one sentence.

    Only around what we write: a format's own errors are its own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        # Somebody else's lock is a TimeoutError; a file system without locks is not implemented.
        if isinstance(error, OSError | NotImplementedError) and not isinstance(error, Timeout):
            reason = getattr(error, "strerror", None) or error
            raise MtlplugError(
                f"cache folder {self._folder} cannot be written ({reason}); make room, or choose "
                "another with --cache"
            ) from None


class _Counted:
    """Rows that count themselves as they are read, and tell from time to time."""

    def __init__(self, rows: Iterator[Row], tell: Callable[[int], None] | None) -> None:
        self._rows = rows
        self._tell = tell
        self.number = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self.number += 1
            if self._tell and self.number % ROWS_BETWEEN == 0:
                self._tell(self.number)
            yield row


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


def _code_digest(cls: type) -> str:
    """Hash of the module a format is written in: an author's edit builds features anew."""
    try:
        return hashlib.sha256(inspect.getsource(inspect.getmodule(cls) or cls).encode()).hexdigest()
    except (OSError, TypeError):  # no source at hand, for example in an interactive session
        return ""
