"""Builds the features of many tasks on all cores: on every rank, and in helper processes.

Nobody hands out work. Every process goes through the tasks, the largest first, makes those that
are missing, and of those that another one has locked the pieces that are free
(`mtlplug.data.pieces`); only then does it wait for the rest. A helper's fault costs nothing: this
process comes to the same task and says what is wrong.
Processes speak JSON: the work in one piece (`mtlplug.data.work`), progress in lines.

Most of the time goes into Python (reading rows, a format's own work), so that the threads of the
tokenizer alone keep one core busy and little more: hence processes.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from filelock import Timeout

from mtlplug.data.build import Builder, TaskData, Tell
from mtlplug.data.work import Jobs, read_work, write_work
from mtlplug.formats import Task, TaskFormat
from mtlplug.plugin_manager import load_plugins

PATIENCE = 4.0
"""Seconds of building after which helpers are started: each takes as long to import torch."""

MOST_HELPERS = 15
"""Helpers of one process at the most: each holds a few hundred megabytes."""


def build_all(
    builder: Builder, jobs: Jobs, splits: Sequence[str], tell: Tell | None = None
) -> list[TaskData]:
    """Open the stores of these splits of all tasks, making those that are missing.

    Raises:
        MtlplugError: rows cannot be read or used.
    """
    helpers = Helpers(builder, jobs, splits, tell)
    found: dict[str, TaskData] = {}
    with helpers:
        for wait in (False, True):
            patient = replace(builder, wait=wait, tell=helpers.tell)
            for task, task_format in _largest_first(jobs):
                if task.name not in found:
                    with suppress(Timeout):
                        found[task.name] = patient.build(task, task_format, splits)
                        helpers.tell(task.name, "", 0, None)
    return [found[task.name] for task, _ in jobs]


class Helpers:
    """Processes that build tasks too, once it has taken a while."""

    def __init__(
        self, builder: Builder, jobs: Jobs, splits: Sequence[str], tell: Tell | None
    ) -> None:
        self._work = (builder, jobs, splits)
        self._tell = tell
        self._started_at = time.monotonic()
        self._left = {task.name: task_format for task, task_format in jobs}
        self._one_at_a_time = threading.Lock()
        self._processes: list[subprocess.Popen[bytes]] | None = None  # not started yet

    def __enter__(self) -> Helpers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes or ():
            process.terminate()
            process.wait()

    def tell(self, task: str, split: str, rows: int, total: int | None) -> None:
        """Note this process's progress; start the helpers when it is time."""
        if not split:
            self._left.pop(task, None)
        self._hand_on(task, split, rows, total)
        if self._processes is None and time.monotonic() - self._started_at >= PATIENCE:
            self._processes = []
            self._start(min(spare_cores(), self._useful, MOST_HELPERS))

    @property
    def _useful(self) -> int:
        """Helpers that find something to do: one for each other task, or many for one."""
        divisible = any(task_format.independent_rows for task_format in self._left.values())
        return MOST_HELPERS if divisible else len(self._left) - 1

    def _start(self, number: int) -> None:
        work = write_work(*self._work)
        if work is None:
            return
        # A file, not a pipe, which would hold us up until the helper has imported torch.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "work.json"
            path.write_text(work, encoding="utf-8")
            for _ in range(number):
                with path.open("rb") as given:
                    self._start_one(given)

    def _start_one(self, given: IO[bytes]) -> None:
        # Not multiprocessing, which would import the user's main script once more.
        process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import help_build; help_build()"],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert self._processes is not None
        self._processes.append(process)
        threading.Thread(target=self._listen, args=[process.stdout], daemon=True).start()

    def _listen(self, pipe: IO[bytes]) -> None:
        with suppress(json.JSONDecodeError), pipe:  # cut off: the helper is gone
            for line in pipe:
                self._hand_on(*json.loads(line))

    def _hand_on(self, task: str, split: str, rows: int, total: int | None) -> None:
        with self._one_at_a_time:
            if self._tell:
                self._tell(task, split, rows, total)


def help_build() -> None:
    """What a helper does: build what nobody is building, and tell how far it is."""
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    sys.stdout = sys.stderr

    def tell(*progress: str | int | None) -> None:
        told.write(json.dumps(progress) + "\n")

    builder, jobs, splits = read_work(sys.stdin.read(), load_plugins().formats)
    complete = set()
    for wait in (False, True):
        patient = replace(builder, wait=wait, tell=tell)
        for task, task_format in _largest_first(jobs):
            if task.name not in complete:
                with suppress(Timeout):
                    patient.build(task, task_format, splits)
                    complete.add(task.name)
                    tell(task.name, "", 0, None)


def spare_cores() -> int:
    """Cores of this process's share of the host, but for the one it runs on."""
    here = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE")
    ranks = int(here or os.environ.get("WORLD_SIZE") or 1)
    return len(os.sched_getaffinity(0)) // ranks - 1


def _largest_first(jobs: Jobs) -> list[tuple[Task, TaskFormat]]:
    """The tasks by the size of their files; those on the hub, whose size is unknown, first."""
    return sorted(jobs, key=lambda job: -_size(job[0]))


def _size(task: Task) -> float:
    files = [getattr(source, "path", None) for source in task.sources.values()]
    return sum(path.stat().st_size if path and path.is_file() else math.inf for path in files)
