"""Turns the rows of one split into stored features, piece by piece, in one process or many.

A piece is a thousand rows. Nobody hands out work: every process reads all rows, which costs
little beside making features of them, makes each piece that nobody has made or locked, and reads
over the others. The one that holds the split's own lock waits for the last of them and joins the
pieces in the order of the rows. So what is stored does not depend on how many took part.
"""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mtlplug.data.store import META, FeatureStore, FeatureWriter
from mtlplug.data.tokens import Encode
from mtlplug.errors import FULL, MtlplugError, NoRoomError
from mtlplug.formats import Row, Task, TaskFormat

PIECE = 1024
"""Rows of a piece."""

VALUES = "values.json"
"""File of a piece: what `Encode.count_repeated` must compare with the other pieces."""

ROWS_BETWEEN = 256
"""Rows after which progress is told."""


@dataclass(frozen=True)
class Making:
    """One split that is to be stored.

    Attributes:
        folder: where its store will be; others see it there whole or not at all.
        task: prepared.
        split: its name.
        task_format: makes the features.
        encode: the tokenizer service for the split.
        rows: reads the rows from the beginning.
        references: whether gold is kept.
        source: fingerprint of where the rows are from.
    """

    folder: Path
    task: Task
    split: str
    task_format: TaskFormat
    encode: Encode
    rows: Callable[[], Iterable[Row]]
    references: bool
    source: str

    def finish(self) -> None:
        """Make the store, if it is missing; only for the holder of its lock.

        What an earlier build that was killed had finished is used.

        Raises:
            MtlplugError: a row cannot be read or used (the first one, whoever came to it), there
                is none, or the folder cannot be written; nothing is left half written.
        """
        if self._done:
            return
        try:
            number = self._make_all()
            if self._done:  # NFS showed only now what another host has made
                return
            pieces = [self._place(piece) for piece in range(number)]
            whole = pieces[0] if len(pieces) == 1 else self._join(pieces)
            self._check_not_empty(FeatureStore(whole))
            with Writing(self.folder.parent):
                (whole / VALUES).unlink(missing_ok=True)
                whole.rename(self.folder)
        finally:
            shutil.rmtree(self._unfinished, ignore_errors=True)

    def help(self) -> None:
        """Make pieces for the process that holds the lock, which tells of any error."""
        if not self.task_format.independent_rows or self._done:
            return
        with suppress(MtlplugError):
            self._make_free()
        if self._done:
            shutil.rmtree(self._unfinished, ignore_errors=True)  # made again by our own locks

    def _make_all(self) -> int:
        """Make every piece; returns how many there are."""
        skipped: list[int] = []
        try:
            number = self._make_free(skipped)
        except MtlplugError:
            if not skipped:
                raise
        else:
            for piece in skipped:
                with lock(self._place(piece), wait=True):
                    pass  # its maker has ended
            if all(self._made(piece) for piece in skipped):
                return number
        # A maker is gone, or met an error that may be the first one of all.
        return self._make_free(wait=True)

    def _make_free(self, skipped: list[int] | None = None, *, wait: bool = False) -> int:
        """Make the pieces that are missing; returns how many pieces there are.

        Args:
            skipped: the pieces that others are making are added here.
            wait: wait for these instead.
        """
        size = PIECE if self.task_format.independent_rows else sys.maxsize
        rows = iter(self.rows())
        for piece in itertools.count():
            first = next(rows, None)
            if first is None or self._done:
                break
            mine = Counted(itertools.chain([first], itertools.islice(rows, size - 1)))
            try:
                self._make(piece, mine, wait=wait)
            except Timeout:
                if skipped is not None:
                    skipped.append(piece)
            deque(mine, 0)
        return piece

    def _make(self, piece: int, rows: Counted, *, wait: bool) -> None:
        """Make one piece.

        Raises:
            Timeout: another process is making it.
        """
        if not self._made(piece):
            with lock(self._place(piece), wait=wait):
                if not self._made(piece) and not self._done:
                    self._write(piece, rows)

    def _write(self, piece: int, rows: Counted) -> None:
        half = self._place(f"{piece}.half")
        shutil.rmtree(half, ignore_errors=True)
        encode = self.encode.part(piece * PIECE)
        writing = Writing(self.folder.parent)
        with writing:
            writer = FeatureWriter(half, references=self.references)
        try:
            for feature in self.task_format.features(self.task, rows, encode):
                with writing:
                    writer.add(feature)
            deque(rows, 0)
            with writing:
                values = {what: sorted(found) for what, found in encode.values.items()}
                (half / VALUES).write_text(json.dumps(values), encoding="utf-8")
                writer.close(self._meta(rows.number, encode.counts))
                half.rename(self._place(piece))
        except BaseException:
            writer.abandon()
            shutil.rmtree(half, ignore_errors=True)
            raise

    def _meta(self, rows: int, counts: Mapping[str, int]) -> dict[str, Any]:
        return {"rows": rows, "counts": dict(counts), "source": self.source}

    def _join(self, pieces: list[Path]) -> Path:
        whole = self._place("whole")
        shutil.rmtree(whole, ignore_errors=True)
        counts, rows = Counts(), 0
        with Writing(self.folder.parent):
            writer = FeatureWriter(whole, references=self.references)
            try:
                for place in pieces:
                    writer.extend(piece := FeatureStore(place))
                    counts.add(piece)
                    rows += piece.meta["rows"]
                writer.close(self._meta(rows, counts.total))
            except BaseException:
                writer.abandon()
                raise
        return whole

    def _check_not_empty(self, store: FeatureStore) -> None:
        if not store.read_counts_N.any():
            raise MtlplugError(
                f"split '{self.split}' of task '{self.task.name}' has no usable row "
                f"({store.meta['rows']} read); counted: {store.meta['counts'] or 'nothing'}"
            )

    @property
    def _unfinished(self) -> Path:
        return self.folder.with_name(self.folder.name + ".tmp")

    @property
    def _done(self) -> bool:
        return (self.folder / META).exists()

    def _place(self, piece: int | str) -> Path:
        return self._unfinished / str(piece)

    def _made(self, piece: int) -> bool:
        return (self._place(piece) / META).exists()


class Counted:
    """Rows that count themselves as they are read, and tell from time to time.

    Attributes:
        number: of those read.
        complete: whether all have been read.
    """

    def __init__(self, rows: Iterator[Row], tell: Callable[[int], None] | None = None) -> None:
        self._rows = rows
        self._tell = tell
        self.number = 0
        self.complete = False

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self.number += 1
            if self._tell and self.number % ROWS_BETWEEN == 0:
                self._tell(self.number)
            yield row
        self.complete = True


class Counts:
    """Adds up what was cut, dropped or repaired in pieces, and values that two of them share."""

    def __init__(self) -> None:
        self.total: Counter[str] = Counter()
        self._seen: dict[str, set[str]] = {}

    def add(self, piece: FeatureStore) -> None:
        """Count a piece."""
        self.total.update(piece.meta["counts"])
        values = json.loads((piece.folder / VALUES).read_text(encoding="utf-8"))
        for what, found in values.items():
            seen = self._seen.setdefault(what, set())
            if again := len(seen.intersection(found)):
                self.total[what] += again
            seen.update(found)


class Writing:
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
            kind = NoRoomError if getattr(error, "errno", None) in FULL else MtlplugError
            raise kind(
                f"cache folder {self._folder} cannot be written ({reason}); make room, or choose "
                "another with --cache"
            ) from None


@contextmanager
def lock(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold a lock beside a file or folder that is about to be made.

    Raises:
        Timeout: another process holds it, and we do not wait.
    """
    held = FileLock(path.with_name(path.name + ".lock"), timeout=-1 if wait else 0)
    with Writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        held.acquire()
    try:
        yield
    finally:
        held.release()
