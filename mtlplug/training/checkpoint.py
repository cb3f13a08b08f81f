"""Checkpoints that are whole or not there: what is written, when it counts, what is kept.

checkpoints/step-40.tmp/        being written
checkpoints/step-40/            complete: renamed when all below was on the disk
checkpoints/step-40-scored/     the same step, with the scores of the epoch that ends there
    rank-0.safetensors          numbers of rank 0: weights, optimizer, random generators
    rank-0.json                 where they belong, and other state of rank 0
    progress.json               what all ranks share: schedule, loss scale, position, scores
    manifest.json               size and SHA-256 of each of these files, and its own

A resumed run takes the newest one of which every byte is as it was written. Files are safetensors
and JSON: reading them runs no code.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

import mtlplug
from mtlplug.errors import MtlplugError, NoRoomError
from mtlplug.processor import free_memory
from mtlplug.training.manifest import (
    MANIFEST,
    problem_of,
    read_json,
    sync_folder,
    write_json,
    write_manifest,
    write_tensors,
)
from mtlplug.training.state import Shards, Tensors
from mtlplug.world import World

PROGRESS = "progress.json"

NAME = re.compile(r"step-(\d+)(-scored)?")

MISFITS = (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError)
"""What reading a checkpoint may raise whose files are whole and hold something else."""

SPARE = 1.05
"""Free space asked for, over what is to be written."""

SECONDS_BETWEEN_LOOKS = 0.02
"""How often rank 0 looks whether the others have written their part."""


@dataclass(frozen=True)
class Part:
    """What one rank adds to a checkpoint.

    Attributes:
        tensors: on the host.
        facts: JSON-like.
    """

    tensors: Tensors
    facts: dict[str, Any]

    @property
    def size(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


@dataclass(frozen=True)
class Found:
    """A checkpoint of which every byte is as it was written.

    Attributes:
        place: its folder.
        world_size: ranks that wrote it.
        progress: what they shared.
        refused: newer ones that are not as they were written, with the reason.
    """

    place: Path
    world_size: int
    progress: Mapping[str, Any]
    refused: tuple[str, ...] = ()

    def facts(self) -> list[dict[str, Any]]:
        """What each rank wrote beside its numbers."""
        return [read_json(self.place / f"rank-{rank}.json") for rank in range(self.world_size)]

    def shards(self) -> Shards:
        """The numbers of all ranks."""
        files = [self.place / f"rank-{rank}.safetensors" for rank in range(self.world_size)]
        return Shards(files, self.facts())


class Checkpoints:
    """The checkpoints of a run, written while training goes on.

    Args:
        place: folder of all of them, on a file system that all ranks see.
        world: the processes of the run.
        keep: how many of the newest ones are kept, beside those they need.
    """

    def __init__(self, place: Path, world: World, keep: int = 2) -> None:
        self.place = place
        self.world = world
        self.keep = keep
        self._writing: threading.Thread | None = None
        self._problem: Exception | None = None

    @property
    def writing(self) -> bool:
        """Whether one is being written."""
        return self._writing is not None and self._writing.is_alive()

    def has(self, name: str) -> bool:
        """Whether there is one of this name; one that is being written is not there yet."""
        return (self.place / name / MANIFEST).exists()

    def save(self, name: str, part: Part, progress: Mapping[str, Any], of_all: int = 0) -> None:
        """Write a checkpoint in the background; `wait` tells when it is there.

        Args:
            name: `name_of` the step.
            part: this rank's; it must not change any more.
            progress: the same on all ranks. `needs` names checkpoints to keep with it.
            of_all: bytes of the parts of all ranks.

        Raises:
            MtlplugError: the last one could not be written, or the disk is too full for this one.
        """
        self.wait()
        self._check_space(max(part.size, of_all))
        self._writing = threading.Thread(
            target=self._write, args=(name, part, progress), name="checkpoint", daemon=True
        )
        self._writing.start()

    def check(self) -> None:
        """Say what went wrong in the background, if anything did.

        Raises:
            MtlplugError: a checkpoint could not be written.
        """
        if not self.writing:
            self.wait()

    def wait(self) -> None:
        """Wait until all is written.

        Raises:
            MtlplugError: a checkpoint could not be written.
        """
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        problem, self._problem = self._problem, None
        if problem is not None:
            reason = getattr(problem, "strerror", None) or " ".join(str(problem).split())
            raise MtlplugError(
                f"a checkpoint could not be written in {self.place} ({reason}); make room, and "
                "the same command goes on from the one before"
            ) from problem

    def clear_leftovers(self) -> None:
        """Remove what was being written when a run ended; rank 0 only, before anything else."""
        for folder in self.place.glob("*.tmp"):
            shutil.rmtree(folder, ignore_errors=True)

    def _newest(self) -> Found | None:
        """The newest checkpoint of which every byte is as it was written; None: there is none.

        Newer ones are set aside: the run comes to their steps again.

        Raises:
            MtlplugError: there are some, and all are damaged.
        """
        refused: dict[str, str] = {}
        for name in self._names():
            if problem := self._problem_of(name):
                refused[name] = f"checkpoint {name} is damaged ({problem})"
            else:
                for other in refused:
                    self._set_aside(other)
                return self._found(name, list(refused.values()))
        if refused:
            raise MtlplugError(
                f"in {self.place} {'; '.join(refused.values())}, and there is no other to go on "
                "from; start over with --overwrite"
            )
        return None

    def _set_aside(self, name: str) -> None:
        """Give a damaged checkpoint a name under which nobody looks for one."""
        aside = self.place / f"{name}.damaged"
        shutil.rmtree(aside, ignore_errors=True)
        (self.place / name).rename(aside)

    def newest(self) -> Found | None:
        """The same on all ranks: rank 0 reads every byte, the others what they need.

        Raises:
            MtlplugError: all are damaged.
        """
        name, told = None, []
        if self.world.main:
            try:
                if found := self._newest():
                    name, told = found.place.name, list(found.refused)
            except MtlplugError as error:
                told = [str(error)]
        name, told = self.world.broadcast([name, told])
        if name is None and told:
            raise MtlplugError(told[0])
        return self._found(name, told) if name else None

    def find(self, name: str) -> Found:
        """A checkpoint by its name.

        Raises:
            MtlplugError: it is damaged.
        """
        if problem := problem_of(self.place / name):
            place = self.place / name
            raise MtlplugError(
                f"checkpoint {place} is damaged ({problem}); start over with --overwrite"
            )
        return self._found(name)

    def _found(self, name: str, refused: Sequence[str] = ()) -> Found:
        place = self.place / name
        size = int(read_json(place / MANIFEST)["world_size"])
        return Found(place, size, read_json(place / PROGRESS), tuple(refused))

    def _problem_of(self, name: str) -> str | None:
        """What is wrong with a checkpoint, or with one that it needs."""
        if problem := problem_of(self.place / name):
            return problem
        try:
            found = self._found(name)
            found.shards()
            for other in found.progress["needs"]:
                if problem := problem_of(self.place / other):
                    return f"it needs {other}: {problem}"
        except MISFITS as error:  # whole, but not ours: somebody made it
            return f"it cannot be read: {type(error).__name__} {' '.join(str(error).split())}"
        return None

    def _names(self) -> list[str]:
        """Of all checkpoints, the newest first."""
        matches = (NAME.fullmatch(path.name) for path in self.place.glob("step-*"))
        found = sorted(((int(m[1]), bool(m[2])) for m in matches if m), reverse=True)
        return [name_of(step, scored=scored) for step, scored in found]

    def _check_space(self, size: int) -> None:
        existing = next(each for each in (self.place, *self.place.parents) if each.exists())
        free = shutil.disk_usage(existing).free
        if free < size * SPARE:
            raise NoRoomError(
                f"a checkpoint takes {size / 1e6:,.1f} MB and only {free / 1e6:,.1f} MB are free "
                f"for {self.place}; make room, and the same command goes on from the one before"
            )

    def _write(self, name: str, part: Part, progress: Mapping[str, Any]) -> None:
        unfinished = self.place / f"{name}.tmp"
        try:
            unfinished.mkdir(parents=True, exist_ok=True)
            written = _write_part(unfinished, self.world.rank, part)
            write_json(unfinished / f"rank-{self.world.rank}.done", written)
            if self.world.main:
                self._commit(unfinished, progress)
        except Exception as error:  # raised again where the run waits for this thread
            self._problem = error
            if self.world.main:
                shutil.rmtree(unfinished, ignore_errors=True)
            else:  # rank 0 waits for it
                with suppress(OSError):
                    (unfinished / f"rank-{self.world.rank}.failed").touch()

    def _commit(self, unfinished: Path, progress: Mapping[str, Any]) -> None:
        """When all ranks have written theirs: manifest, rename, and out with the old ones."""
        files: dict[str, Any] = {}
        for rank in range(self.world.size):
            done = unfinished / f"rank-{rank}.done"
            # By the list of the folder: NFS remembers for a while that a single file was not there.
            while done.name not in os.listdir(unfinished):
                if done.with_suffix(".failed").exists():
                    raise MtlplugError(f"rank {rank} could not write its part")
                time.sleep(SECONDS_BETWEEN_LOOKS)
            files |= read_json(done)
            done.unlink()
        files[PROGRESS] = write_json(unfinished / PROGRESS, progress)
        facts = {"mtlplug": mtlplug.__version__, "world_size": self.world.size}
        write_manifest(unfinished, facts, files)
        unfinished.rename(unfinished.with_suffix(""))
        sync_folder(self.place)
        self._remove_old()

    def _needs(self, name: str) -> list[str]:
        """The checkpoints that one needs; none if it is damaged."""
        try:
            return list(read_json(self.place / name / PROGRESS)["needs"])
        except MISFITS:
            return []

    def _remove_old(self) -> None:
        """Keep the newest ones, and those they need."""
        names = self._names()
        newest = names[: self.keep]
        kept = {*newest, *chain(*map(self._needs, newest))}
        for name in set(names) - kept:
            # Gone at once: half a checkpoint would look like a damaged one.
            gone = self.place / f"{name}.old.tmp"
            (self.place / name).rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def name_of(step: int, *, scored: bool) -> str:
    """The name of a checkpoint after so many optimizer steps."""
    return f"step-{step}{'-scored' if scored else ''}"


def fits_in_memory(size: int) -> bool:
    """Whether this machine has memory to spare for a copy of so many bytes while it is written."""
    free = free_memory()
    return free is None or free > 2 * size


def _write_part(folder: Path, rank: int, part: Part) -> dict[str, Any]:
    """Write the files of one rank; their sizes and digests by name."""
    numbers, facts = f"rank-{rank}.safetensors", f"rank-{rank}.json"
    return {
        numbers: write_tensors(folder / numbers, part.tensors),
        facts: write_json(folder / facts, part.facts),
    }
