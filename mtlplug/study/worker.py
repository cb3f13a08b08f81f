"""The processes of the local executor: each works on the cells that come in, one after another.

Process and pool speak in lines of JSON over pipes; what a cell prints goes to its log. When the
driver dies the process ends with it, and so does all it started.

Importing torch, transformers and DeepSpeed takes several seconds of a core. Where it is safe, the
driver imports them once and its workers are forked from it: on Linux, on a CPU, and before the
driver has computed anything, since neither CUDA nor OpenMP's threads survive a fork.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

CELLS_BETWEEN_TRIMS = 10
"""Cells after which a worker gives freed memory back to the system."""

DEVICES = "CUDA_VISIBLE_DEVICES"

ALL_DEVICES = "MTLPLUG_DRIVERS_DEVICES"
"""What a driver's `DEVICES` says, where each of its processes sees one GPU; "": it is not set."""

SERVE = "from mtlplug.study.worker import serve; serve()"


class Process(Protocol):
    """What a pool needs of a process.

    Attributes:
        pid: also of its group, which it leads.
        stdin: takes cells.
        stdout: gives what became of them.
    """

    pid: int
    stdin: IO[str]
    stdout: IO[str]

    def wait(self) -> int:
        """How it ended: its exit code, or minus the number of a signal."""


class Started:
    """A process from scratch.

    Args:
        threads: of torch, on a CPU.
        device: what it sees as its GPU.
    """

    def __init__(self, threads: int, device: str | None) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        if device is not None:
            # A launcher takes all GPUs that the driver has.
            environment |= {DEVICES: device, ALL_DEVICES: os.environ.get(DEVICES, "")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            bufsize=1,
            # An interrupt of the terminal is the driver's to answer.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.pid: int = self._process.pid
        self.stdin: IO[str] = self._process.stdin
        self.stdout: IO[str] = self._process.stdout

    def wait(self) -> int:
        """How it ended."""
        return self._process.wait()


class Forked:
    """A copy of this process, with everything that is imported here.

    Args:
        threads: of torch.
        others: whose pipes it must not keep open: they wait for the driver's end.
    """

    def __init__(self, threads: int, others: Sequence[Process]) -> None:
        cells_in, cells_out = os.pipe()
        answers_in, answers_out = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            for other in others:
                other.stdin.close()
                other.stdout.close()
            os.close(cells_out)
            os.close(answers_in)
            _become_worker(threads, cells_in, answers_out)
        # An interrupt of the terminal is the driver's to answer. Here and there: it must be so
        # before either goes on.
        os.setpgid(self.pid, self.pid)
        os.close(cells_in)
        os.close(answers_out)
        self.stdin: IO[str] = os.fdopen(cells_out, "w", buffering=1, encoding="utf-8")
        self.stdout: IO[str] = os.fdopen(answers_in, encoding="utf-8")
        self._code: int | None = None

    def wait(self) -> int:
        """How it ended."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code


def _become_worker(threads: int, cells_in: int, answers_out: int) -> None:
    """What a forked process does; it never returns into the driver's code."""
    try:
        import torch

        os.setpgid(0, 0)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(cells_in, 0)
        os.dup2(answers_out, 1)
        os.close(cells_in)
        os.close(answers_out)
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)
        serve()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def import_all() -> bool:
    """Import what cells need; returns whether workers may be forked from this process.

    They may not where torch was there before: it may have been used.
    """
    untouched = "torch" not in sys.modules and sys.platform == "linux"
    # Among a million objects that stay, looking for garbage takes a tenth of the time.
    gc.disable()
    try:
        import sklearn.metrics  # noqa: F401  # formats import it only where they score

        import mtlplug.training.pretrain  # noqa: F401
        from mtlplug.plugin_manager import load_plugins

        load_plugins()
    finally:
        gc.enable()
    gc.freeze()
    return untouched


def serve() -> None:
    """Work on the cells that come in over standard input, until it closes."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what a plugin prints while it is imported is no answer
    jobs: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    import_all()  # before the first cell comes, while the driver is still planning
    from mtlplug.study.cell import run_logged
    from mtlplug.study.plan import Cell
    from mtlplug.training.memory import give_back_memory

    for number in itertools.count():
        job = jobs.get()
        cell = Cell(**job["cell"])
        state = run_logged(Path(job["folder"]), cell, job["launcher"])
        # At once: the driver looks for the next cell while this process clears up.
        answers.write(json.dumps({"cell": cell.name, "state": state}) + "\n")
        # Or a process grows from cell to cell, by gigabytes in an hour.
        give_back_memory(to_system=number % CELLS_BETWEEN_TRIMS == 0)
        if number == 0:
            gc.freeze()  # what the first cell imported stays, too; later ones only leave garbage


def _listen(jobs: queue.SimpleQueue[Mapping[str, Any]]) -> None:
    for line in sys.stdin:
        jobs.put(json.loads(line))
    # The driver is gone: so goes this process, with all it started.
    os.killpg(os.getpgrp(), signal.SIGKILL)
