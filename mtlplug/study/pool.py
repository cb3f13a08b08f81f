"""The local executor: a pool of processes on this machine, each working on cell after cell.

The processes stay. A process that dies costs its cell alone: the cell is noted as failed, and
another process takes its place. What they are and how they speak: `mtlplug.study.worker`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import selectors
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mtlplug.study.cell import STOPPED, record_crash
from mtlplug.study.executors import Ended, Executor, Resources
from mtlplug.study.plan import Cell
from mtlplug.study.results import FAILED
from mtlplug.study.settings import PRETRAIN
from mtlplug.study.worker import DEVICES, Forked, Process, Started

STOPS = 3
"""Signals that end a cell before it counts as failed. One may be meant for the whole job, which a
scheduler ends process by process; who watches over memory sends them time after time.
"""

SECONDS_TO_END = 40.0
"""For a launcher and its ranks: torchrun and deepspeed give theirs thirty."""


@dataclass
class Worker:
    """One process of the pool, and what it is at."""

    process: Process
    slot: int
    cell: Cell | None = None
    started: float = 0.0


class Pool(Executor):
    """Cells on this machine.

    Args:
        folder: of the study.
        size: processes.
        threads: of each, on a CPU.
        devices: what each process sees as its GPU, by slot; empty on a CPU.
        launcher: command that starts the ranks of pre-finetuning cells; none: one process.
        fork: the first processes may be forked from this one; not with GPUs.
    """

    def __init__(
        self,
        folder: Path,
        size: int,
        threads: int,
        devices: Sequence[str] = (),
        launcher: Sequence[str] = (),
        *,
        fork: bool = False,
    ) -> None:
        self.folder = folder
        self.size = size
        self._threads = threads
        self._devices = devices
        self._launcher = tuple(launcher)
        self._stops: Counter[str] = Counter()
        self._selector = selectors.DefaultSelector()
        self._workers: list[Worker] = []
        for slot in range(size):
            self._workers.append(self._worker(slot, fork=fork and not devices))

    @classmethod
    def of(cls, resources: Resources) -> Pool:
        """A pool that suits this machine: its GPUs, else its cores."""
        import torch

        gpus = torch.cuda.device_count()
        cores = len(os.sched_getaffinity(0))
        size = gpus * resources.per_gpu or max(1, cores // resources.threads)
        return cls(
            resources.folder,
            resources.workers or size,
            resources.threads,
            visible_devices(gpus),
            resources.launcher,
            fork=resources.fork,
        )

    def submit(self, cell: Cell) -> None:
        """Give a cell to an idle process."""
        worker = next(each for each in self._workers if each.cell is None)
        worker.cell, worker.started = cell, time.time()
        job = {
            "folder": str(self.folder),
            "cell": dataclasses.asdict(cell),
            "launcher": self._launcher,
        }
        with suppress(BrokenPipeError):  # its end shows on the other pipe
            worker.process.stdin.write(json.dumps(job) + "\n")
            worker.process.stdin.flush()

    def wait(self, seconds: float) -> list[Ended]:
        """The cells that ended; an empty list after so many seconds."""
        ended = []
        for key, _ in self._selector.select(seconds):
            worker: Worker = key.data
            line = worker.process.stdout.readline()
            if line:
                ended.append(self._ended(worker, str(json.loads(line)["state"])))
            else:
                ended += self._dead(worker)
        return ended

    def close(self) -> None:
        """End all processes at once."""
        for worker in self._workers:
            self._end(worker)
        self._selector.close()

    def _ended(self, worker: Worker, state: str) -> Ended:
        cell, worker.cell = worker.cell, None
        assert cell is not None
        if state == STOPPED:
            state = self._stopped(cell, worker.started, "the run was stopped by a signal")
        if state in (FAILED, STOPPED):
            # Whatever went wrong may have left the process in a bad way.
            self._replace(worker)
        return Ended(cell, state, time.time() - worker.started)

    def _dead(self, worker: Worker) -> list[Ended]:
        """Replace a process that died; its cell, if it had one, has failed or was asked to end.

        Raises:
            RuntimeError: it died of itself before its first cell: no other would do better.
        """
        code = worker.process.wait()
        asked = -code in (signal.SIGTERM, signal.SIGINT)
        ended = []
        if worker.cell is not None:
            note = self._stopped if asked else partial(record_crash, self.folder)
            state = note(worker.cell, worker.started, _reason(code))
            ended.append(Ended(worker.cell, state, time.time() - worker.started))
        elif not asked and not worker.started:
            raise RuntimeError(f"a process of the pool ended with {code} before it had work")
        self._replace(worker)
        return ended

    def _stopped(self, cell: Cell, started: float, reason: str) -> str:
        """The state of a cell that a signal ended: still to do, but not for ever."""
        self._stops[cell.name] += 1
        if self._stops[cell.name] < STOPS:
            return STOPPED
        return record_crash(self.folder, cell, started, reason)

    def _replace(self, worker: Worker) -> None:
        self._end(worker)
        self._workers[worker.slot] = self._worker(worker.slot)

    def _end(self, worker: Worker) -> None:
        """Kill a process and all it started; a launcher is asked first.

        The ranks of torchrun, and those on other hosts, are in no group of ours: it ends them.
        """
        if self._launcher and worker.cell is not None and worker.cell.kind == PRETRAIN:
            with suppress(ProcessLookupError):
                os.killpg(worker.process.pid, signal.SIGTERM)
            worker.process.wait()
            deadline = time.monotonic() + SECONDS_TO_END
            while _there(worker.process.pid) and time.monotonic() < deadline:
                time.sleep(0.2)
        with suppress(ProcessLookupError):
            os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
        self._selector.unregister(worker.process.stdout)

    def _worker(self, slot: int, *, fork: bool = False) -> Worker:
        """Start a process."""
        process: Process
        if fork:
            process = Forked(self._threads, [each.process for each in self._workers])
        else:
            device = self._devices[slot % len(self._devices)] if self._devices else None
            process = Started(self._threads, device)
        worker = Worker(process, slot)
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)
        return worker


def visible_devices(count: int) -> list[str]:
    """What each of so many GPUs is called where processes are told which one is theirs."""
    shown = os.environ.get(DEVICES)
    return shown.split(",")[:count] if shown else [str(number) for number in range(count)]


def _there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _reason(code: int) -> str:
    if code >= 0:
        return f"the process ended with {code}"
    name = signal.Signals(-code).name
    memory = " (out of memory, perhaps; use fewer --workers)" if name == "SIGKILL" else ""
    return f"the process was ended by {name}{memory}"
