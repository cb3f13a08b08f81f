"""Cells on a Ray cluster: one machine or many, all of which see the study's folder.

A node that is lost costs the time of its cells alone: Ray starts them again elsewhere, and a cell
whose result is in the ledger is not run again.
"""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtlplug.errors import MtlplugError
from mtlplug.plugin_sources import give, given
from mtlplug.study.cell import BUSY, record_crash, run_logged
from mtlplug.study.executors import Ended, Executor, Resources
from mtlplug.study.plan import Cell

RETRIES = 5
"""How often Ray starts a cell again when the process or the machine that worked on it is gone."""

SECONDS_TO_ANSWER = 10.0
"""How long a cluster may take to answer its address."""


class RayCluster(Executor):
    """Works on cells as Ray tasks.

    Args:
        resources: `address` of a running cluster; without one Ray is started on this machine.

    Raises:
        MtlplugError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, resources: Resources) -> None:
        try:
            import ray
        except ImportError:
            raise MtlplugError(
                "executor 'ray' needs Ray; install it with pip install 'mtlplug[ray]'"
            ) from None
        self._ray: Any = ray
        self._resources = resources
        _check_address(resources.address)
        self._own = not ray.is_initialized()
        if self._own:
            try:
                ray.init(address=resources.address, log_to_driver=False, configure_logging=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                sentence = " ".join(str(error).split())
                raise MtlplugError(
                    f"no Ray cluster at {resources.address or 'this machine'}: {sentence:.300}"
                ) from None
        there = ray.cluster_resources()
        gpus, cores = int(there.get("GPU", 0)), int(there.get("CPU", 1))
        fitting = gpus * resources.per_gpu or max(1, cores // resources.threads)
        self.size = resources.workers or fitting
        self._remote = ray.remote(work).options(
            num_cpus=resources.threads,
            num_gpus=1 / resources.per_gpu if gpus else 0,
            max_retries=RETRIES,
        )
        self._out: dict[Any, tuple[Cell, float]] = {}

    def submit(self, cell: Cell) -> None:
        """Queue a cell; Ray finds it a place."""
        resources = self._resources
        job = dataclasses.asdict(cell)
        launcher = list(resources.launcher)
        reference = self._remote.remote(str(resources.folder), job, launcher, given())
        self._out[reference] = (cell, time.time())

    def wait(self, seconds: float) -> list[Ended]:
        """The cells that ended; an empty list after so many seconds."""
        if not self._out:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(self._out), timeout=seconds)
        return [self._ended(reference) for reference in ready]

    def close(self) -> None:
        """Stop all cells."""
        for reference in self._out:
            self._ray.cancel(reference, force=True)
        if self._own:
            self._ray.shutdown()

    def _ended(self, reference: Any) -> Ended:
        cell, started = self._out.pop(reference)
        try:
            state = str(self._ray.get(reference))
        except self._ray.exceptions.RayError as error:
            reason = f"its process was lost {RETRIES + 1} times ({type(error).__name__})"
            state = record_crash(self._resources.folder, cell, started, reason)
        return Ended(cell, state, time.time() - started)


def _check_address(address: str | None) -> None:
    """Ray itself tries an address where nobody answers for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # none, or a word such as "auto"
    try:
        socket.create_connection((host, int(port)), SECONDS_TO_ANSWER).close()
    except OSError as error:
        raise MtlplugError(f"no Ray cluster at {address} ({error}); check --address") from None


def work(
    folder: str, job: Mapping[str, Any], launcher: Sequence[str], plugins: Sequence[str]
) -> str:
    """A cell, on whatever machine Ray chose, with the driver's plugins."""
    give(plugins)
    cell = Cell(**job)
    while (state := run_logged(Path(folder), cell, launcher)) == BUSY:
        # After a lost machine its lock may outlive it for a moment.
        time.sleep(1.0)
    return state
