"""The local executor: a pool of processes on this machine, each working on cell after cell.

The processes stay, so that torch is imported once in each. They speak in lines of JSON over their
pipes; what a cell prints goes to its log. A process that dies costs its cell alone: the cell is
noted as failed, and another process takes its place. When the driver dies they end with it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlplug.study.cell import record_crash, run_logged
from mtlplug.study.executors import Ended, Executor, Resources
from mtlplug.study.plan import Cell
from mtlplug.study.results import FAILED

SERVE = "from mtlplug.study.pool import serve; serve()"


@dataclass
class Worker:
    """One process of the pool, and what it is at."""

    process: subprocess.Popen[str]
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
    """

    def __init__(
        self,
        folder: Path,
        size: int,
        threads: int,
        devices: Sequence[str] = (),
        launcher: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.size = size
        self._threads = threads
        self._devices = devices
        self._launcher = tuple(launcher)
        self._selector = selectors.DefaultSelector()
        self._workers = [self._start(slot) for slot in range(size)]

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
            [str(number) for number in range(gpus)],
            resources.launcher,
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
            assert worker.process.stdin is not None
            worker.process.stdin.write(json.dumps(job) + "\n")
            worker.process.stdin.flush()

    def wait(self, seconds: float) -> list[Ended]:
        """The cells that ended; an empty list after so many seconds."""
        ended = []
        for key, _ in self._selector.select(seconds):
            worker: Worker = key.data
            assert worker.process.stdout is not None
            line = worker.process.stdout.readline()
            if line:
                ended.append(self._ended(worker, str(json.loads(line)["state"])))
            else:
                ended.append(self._dead(worker))
        return ended

    def close(self) -> None:
        """End all processes at once."""
        for worker in self._workers:
            self._end(worker)
        self._selector.close()

    def _ended(self, worker: Worker, state: str) -> Ended:
        cell, worker.cell = worker.cell, None
        assert cell is not None
        if state == FAILED:
            # Whatever went wrong may have left the process in a bad way.
            self._end(worker)
            self._workers[worker.slot] = self._start(worker.slot)
        return Ended(cell, state, time.time() - worker.started)

    def _dead(self, worker: Worker) -> Ended:
        """Replace a process that died; its cell has failed.

        Raises:
            RuntimeError: it died without a cell: no other would do better.
        """
        code = worker.process.wait()
        if worker.cell is None:
            raise RuntimeError(f"a process of the pool ended with {code} before it had work")
        state = record_crash(self.folder, worker.cell, worker.started, _reason(code))
        ended = Ended(worker.cell, state, time.time() - worker.started)
        self._end(worker)
        self._workers[worker.slot] = self._start(worker.slot)
        return ended

    def _end(self, worker: Worker) -> None:
        """Kill a process and all it started."""
        with suppress(ProcessLookupError):
            os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
        self._selector.unregister(worker.process.stdout)  # type: ignore[arg-type]

    def _start(self, slot: int) -> Worker:
        environment = {**os.environ, "OMP_NUM_THREADS": str(self._threads)}
        if self._devices:
            environment["CUDA_VISIBLE_DEVICES"] = self._devices[slot % len(self._devices)]
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            bufsize=1,
            # An interrupt of the terminal is the driver's to answer.
            start_new_session=True,
        )
        worker = Worker(process, slot)
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]
        return worker


def _reason(code: int) -> str:
    if code >= 0:
        return f"the process ended with {code}"
    name = signal.Signals(-code).name
    memory = " (out of memory, perhaps; use fewer --workers)" if name == "SIGKILL" else ""
    return f"the process was ended by {name}{memory}"


def serve() -> None:
    """Work on the cells that come in over standard input, until it closes."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    jobs: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    # Imported before the first cell comes, while the driver is still planning.
    from mtlplug.training import pretrain as _  # noqa: F401
    from mtlplug.training.memory import give_back_memory

    while True:
        job = jobs.get()
        cell = Cell(**job["cell"])
        state = run_logged(Path(job["folder"]), cell, job["launcher"])
        give_back_memory()  # or a process grows from cell to cell, by gigabytes in an hour
        answers.write(json.dumps({"cell": cell.name, "state": state}) + "\n")


def _listen(jobs: queue.SimpleQueue[Mapping[str, Any]]) -> None:
    for line in sys.stdin:
        jobs.put(json.loads(line))
    # The driver is gone: so goes this process, with all it started.
    os.killpg(os.getpgrp(), signal.SIGKILL)
