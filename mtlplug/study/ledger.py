"""The folder of a study: which cells are done, what they gave, and who is at work on which.

study.json           what the study consists of, as it was last planned
cells/NAME.json      the result of a cell, done or failed; written by a rename, never changed
cells/NAME.log       what a failed cell printed
cells/NAME.lock      held, while it works, by the process that works on the cell
encoders/COLUMN-NAME/    the run folder of a pre-finetuning cell
runs/NAME/           the run folder of a finetuning cell, as long as it works

A cell's name is the hash of everything that decides its result, so a result is never stale, and
any number of drivers and machines may share the folder.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from mtlplug.errors import MtlplugError
from mtlplug.study.results import DONE, FAILED

STUDY = "study.json"


class Ledger:
    """Reads and writes a study's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cells = folder / "cells"

    def check_place(self) -> None:
        """Refuse what is no folder of a study.

        Raises:
            MtlplugError: it is a file, or holds files that are no study.
        """
        for place in (self.folder, *self.folder.parents):
            if place.is_file():
                raise MtlplugError(f"output {place} is a file; choose a folder with --output")
        there = [path.name for path in self.folder.iterdir()] if self.folder.exists() else []
        # What a study that was killed at its very beginning leaves.
        others = [name for name in there if name != self.cells.name and not name.startswith(STUDY)]
        if others and self.study() is None:
            raise MtlplugError(
                f"output folder {self.folder} is not empty and holds no study of mtlplug; "
                "choose another with --output"
            )

    def study(self) -> dict[str, Any] | None:
        """What `study.json` holds; None where there is none.

        Raises:
            MtlplugError: it is no JSON of a study.
        """
        found = _read(self.folder / STUDY)
        if found is not None and not {"settings", "options"} <= found.keys():
            raise MtlplugError(f"{self.folder / STUDY} is of no study of mtlplug; choose another")
        return found

    def write_study(self, study: Mapping[str, Any]) -> None:
        """Make the folder this study's.

        Raises:
            MtlplugError: it cannot be written.
        """
        try:
            self.cells.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / STUDY, study)
        except OSError as error:
            raise MtlplugError(
                f"output folder {self.folder} cannot be written ({error.strerror}); "
                "choose another with --output"
            ) from None

    def result(self, cell: str) -> dict[str, Any] | None:
        """What a cell gave; None where it has not come to an end."""
        return _read(self.cells / f"{cell}.json")

    def state(self, cell: str) -> str | None:
        """ "done", "failed", or None where it has not come to an end."""
        result = self.result(cell)
        return None if result is None else str(result["state"])

    def record(self, cell: str, result: Mapping[str, Any]) -> None:
        """Note the end of a cell, once; what only an unfinished one needs is removed."""
        if result["state"] not in (DONE, FAILED):
            raise ValueError(f"a cell ends as {DONE} or {FAILED}, not {result['state']}")
        write_json(self.cells / f"{cell}.json", result)
        shutil.rmtree(self.run_folder(cell), ignore_errors=True)
        if result["state"] == DONE:
            self.log_file(cell).unlink(missing_ok=True)

    def forget_failures(self) -> int:
        """Let failed cells be tried again; returns how many there were."""
        failed = [p for p in self.cells.glob("*.json") if (_read(p) or {}).get("state") == FAILED]
        for path in failed:
            path.unlink()
        return len(failed)

    def log_file(self, cell: str) -> Path:
        """Where a cell's output goes while it works, and stays if it fails."""
        return self.cells / f"{cell}.log"

    def run_folder(self, cell: str) -> Path:
        """Where a finetuning cell works."""
        return self.folder / "runs" / cell

    def encoder_folder(self, column: str, cell: str) -> Path:
        """The run folder of a pre-finetuning cell."""
        return self.folder / "encoders" / f"{column}-{cell[:8]}"

    @contextmanager
    def claimed(self, cell: str) -> Iterator[FileLock | None]:
        """Hold a cell while working on it; None where another process holds it.

        The system lets go when the process ends, however it ends.
        """
        self.cells.mkdir(parents=True, exist_ok=True)
        path = self.cells / f"{cell}.lock"
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            yield None
            return
        try:
            yield lock
        finally:
            if self.result(cell) is not None:
                # Whoever opened it before finds the result before it works.
                path.unlink(missing_ok=True)
            lock.release()

    def busy(self, cell: str) -> bool:
        """Whether some process works on a cell at this moment."""
        if not (self.cells / f"{cell}.lock").exists():
            return False
        with self.claimed(cell) as lock:
            return lock is None


def unfinished_of(path: Path) -> Path:
    """Where a file is written before its rename; several drivers, on any hosts, may be at it."""
    return path.with_name(f"{path.name}.{uuid4().hex[:8]}.tmp")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file by a rename: whole, or not at all, whatever happens."""
    unfinished = unfinished_of(path)
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError) as error:
        raise MtlplugError(f"{path} cannot be read ({error}); remove it to redo its work") from None
    if not isinstance(found, dict):
        raise MtlplugError(f"{path} holds no JSON object; remove it to do its work again")
    return found
