"""The folder of a run: what is in it, and whether a run may use it.

lock            held while a run is at work here
run.json        everything resolved: options, tasks, labels, versions, DeepSpeed configuration
metrics.jsonl   one line per logged step and per evaluation
ranks/          what each rank is at, while there are several
told.json       up to which line plugins were told before, in a run that goes on
trackers/       what trackers (--log-to) keep
checkpoints/    what a resumed run goes on from, and the weights of the best epoch so far
encoder/        the result; opens with AutoModel.from_pretrained
heads/          one safetensors file per task
report.json     scores, cost; written last, so its presence means the run is complete
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from mtlplug.config import CHANGEABLE
from mtlplug.errors import FULL, BusyError, MtlplugError, NoRoomError
from mtlplug.world import World

CONTENTS = (
    *("report.json", "encoder", "heads", "checkpoints", "ranks", "metrics.jsonl", "run.json"),
    *("encoder.tmp", "encoder.old", "heads.tmp", "heads.old", "run.json.tmp", "report.json.tmp"),
    *("trackers", "told.json", "told.json.tmp"),
)
"""All that a run writes beside its lock; nothing else in its folder is ever removed."""

SECONDS_TO_APPEAR = 70.0
"""In which what one host has written can be seen on the others."""

IN_REPORT = {"best_epoch", "epochs", "loader_wait", "seconds", "tokens", "world_size"}
"""Keys of `report.json` without which a run cannot be shown."""


class RunFolder:
    """Reads and writes a run's folder. Files appear whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.ranks = path / "ranks"
        self.encoder = path / "encoder"
        self.heads = path / "heads"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out: two at work in one folder would remove each other's checkpoints.

        Raises:
            MtlplugError: another run is at work here, or the folder cannot be written.
        """
        lock = FileLock(self.path / "lock", timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise BusyError(
                f"another run is at work in {self.path}; wait until it has ended, or choose "
                "another folder with --output"
            ) from None
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            yield
        finally:
            lock.release()

    def without_run(self) -> MtlplugError:
        """The sentence for a folder in which a run was looked for."""
        if (self.path / "study.json").is_file():
            return MtlplugError(
                f"{self.path} holds a study, not a run; give it to 'mtlplug study status' or "
                "'mtlplug study report'"
            )
        missing = "is a file" if self.path.is_file() else "does not exist"
        what = "holds no run of mtlplug" if self.path.is_dir() else missing
        return MtlplugError(f"{self.path} {what}; give the folder that 'mtlplug run' wrote")

    def claim(self, run: Mapping[str, Any], *, overwrite: bool) -> None:
        """Make the folder ours, or go on with the run in it where it is the same run.

        Raises:
            MtlplugError: it holds another run, or files that are no run, or cannot be written.
        """
        if overwrite:
            self.check_place()
            self._remove(*CONTENTS)
        self.check(run)
        if self.read("report.json") is not None:
            return  # complete: run.json says what it was made with, not what reads it now
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.write("run.json", run)
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> MtlplugError:
        return MtlplugError(
            f"output folder {self.path} cannot be written ({error.strerror}); "
            "choose another with --output"
        )

    def check_place(self) -> None:
        """Refuse what is no folder of a run, before hours are spent.

        Raises:
            MtlplugError: it is a file, or holds files that are no run.
        """
        for place in (self.path, *self.path.parents):
            if place.is_file():
                raise MtlplugError(f"output {place} is a file; choose a folder with --output")
        run = self.read("run.json")
        ours = isinstance(run, dict) and {"mtlplug", "decides"} <= run.keys()
        # A run that was killed before its first file was there leaves the beginning of it.
        if not ours and self.path.is_dir() and {*os.listdir(self.path)} - {"run.json.tmp", "lock"}:
            raise MtlplugError(
                f"output folder {self.path} is not empty and holds no run of mtlplug; "
                "choose another with --output"
            )

    def check(self, run: Mapping[str, Any]) -> None:
        """Refuse what is no folder of a run, and one that holds another run.

        An unfinished run may differ in what its options `allow_change`.

        Raises:
            MtlplugError: the sentence shows what differs.
        """
        self.check_place()
        if not (self.path / "metrics.jsonl").exists():
            return  # a run that never got to its first line has nothing to lose
        there = _flat(self.read("run.json")["decides"])
        now = _flat(json.loads(json.dumps(run["decides"])))
        complete = (self.path / "report.json").exists()
        allowed = () if complete else run["options"]["allow_change"]
        changed = [
            f"{key}: {there.get(key)!r} there, {now.get(key)!r} now"
            for key in dict.fromkeys([*now, *there])
            if there.get(key) != now.get(key) and key not in allowed
        ]
        if changed:
            raise MtlplugError(
                f"output folder {self.path} holds another run ({'; '.join(changed)}); "
                "choose another with --output, or start over with --overwrite"
                f"{_remedy([key.split(':')[0] for key in changed], complete)}"
            )

    def read(self, name: str) -> Any:
        """A JSON file of the folder; None where there is none.

        Raises:
            MtlplugError: it is no JSON.
        """
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, OSError) as error:
            raise self.damaged(name, str(error)) from None

    def no_report(self) -> MtlplugError:
        """The sentence for a `report.json` of something else, or of an older version."""
        return self.damaged("report.json", "it is no report of a run")

    def damaged(self, name: str, reason: str) -> MtlplugError:
        """The sentence for a file of the folder that is not as a run wrote it."""
        return MtlplugError(
            f"{self.path / name} cannot be read ({reason}); put back a copy of it, or train the "
            "run again in another folder with 'mtlplug run --output FOLDER'"
        )

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file of the folder, by a rename."""
        path = self.path / name
        unfinished = path.with_name(path.name + ".tmp")
        unfinished.write_text(
            json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
        )
        unfinished.replace(path)

    @contextmanager
    def in_need_of_room(self) -> Iterator[None]:
        """A full disk, met while something is written here, is one sentence.

        Raises:
            MtlplugError: there was no room.
        """
        try:
            yield
        except (OSError, SafetensorError) as error:
            if not any(os.strerror(number) in str(error) for number in FULL):
                raise
            raise NoRoomError(
                f"the disk of {self.path} is full; make room, and the same command goes on from "
                "the newest checkpoint"
            ) from error

    def log(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """Append a line to metrics.jsonl; returns it as it was written."""
        written: dict[str, Any] = _finite(line)
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(written, ensure_ascii=False, allow_nan=False) + "\n")
        return written

    def last_line(self) -> dict[str, Any] | None:
        """The last whole line of metrics.jsonl; None where there is none."""
        path = self.path / "metrics.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        for line in reversed(lines):
            with suppress(ValueError):  # the disk was full, or the machine went down
                found = json.loads(line)
                if isinstance(found, dict) and {"event", "step"} <= found.keys():
                    return found
        return None

    def log_size(self) -> int:
        """Bytes of metrics.jsonl, all of them on the disk."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return 0
        with path.open("rb") as file:
            os.fsync(file.fileno())
        return path.stat().st_size

    def rewind_log(self, size: int) -> None:
        """Keep the first `size` bytes of metrics.jsonl: what came after is done again."""
        path = self.path / "metrics.jsonl"
        if path.exists() and path.stat().st_size > size:
            os.truncate(path, size)

    def remove_leftovers(self) -> None:
        """Remove what only an unfinished run needs."""
        self._remove("checkpoints", "ranks", "encoder.old", "heads.old", "run.json.tmp", "lock")
        self._remove("told.json", "told.json.tmp")

    def _remove(self, *names: str) -> None:
        for name in names:
            path = self.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def replace(self, unfinished: Path, final: Path) -> None:
        """Put a finished folder in the place of an older one."""
        for file in unfinished.rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        if final.exists():
            old = final.with_name(final.name + ".old")
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
            unfinished.rename(final)
            shutil.rmtree(old)
        else:
            unfinished.rename(final)


@contextmanager
def claimed(
    folder: RunFolder, run: Mapping[str, Any], world: World, *, overwrite: bool
) -> Iterator[None]:
    """Rank 0 makes the folder ours and holds it; what is wrong is said by all ranks alike."""
    with ExitStack() as stack:
        problem = None
        if world.main:
            try:
                stack.enter_context(folder.held())
                folder.claim(run, overwrite=overwrite)
            except MtlplugError as error:
                problem = str(error)
        if problem := world.broadcast(problem):
            raise MtlplugError(problem)
        check_shared(folder, world)
        yield


def check_shared(folder: RunFolder, world: World) -> None:
    """Refuse a folder that rank 0 has written to and another rank does not see.

    NFS may remember for a minute that a folder was not there.
    """
    deadline = time.monotonic() + SECONDS_TO_APPEAR
    while not all(world.broadcast(world.gather(folder.read("run.json") is not None))):
        if world.broadcast(time.monotonic() > deadline):
            raise MtlplugError(
                f"output folder {folder.path} is not the same on all hosts; "
                "choose one on a file system they share, with --output"
            )
        time.sleep(1.0)


def is_report(found: Any) -> bool:
    """Whether something is what `report.json` holds, as far as it is read again."""
    return isinstance(found, dict) and found.keys() >= IN_REPORT


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat


def _finite(value: Any) -> Any:
    """JSON has no infinity: null stands for what is no number."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _remedy(changed: Sequence[str], complete: bool) -> str:
    """Another way on, where all that differs may be changed."""
    if complete or not set(changed) <= set(CHANGEABLE):
        return ""
    return f", or go on with {' '.join(f'--allow-change {key}' for key in changed)}"
