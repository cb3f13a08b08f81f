"""Where cells are worked on: `local`, `ray`, or what a plugin brings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mtlplug.errors import unknown

if TYPE_CHECKING:
    from mtlplug.plugin_manager import Plugins
    from mtlplug.study.plan import Cell


@dataclass(frozen=True)
class Ended:
    """A cell that an executor is through with.

    Attributes:
        cell: which.
        state: "done", "failed", or "busy" where another process works on it.
        seconds: since it was submitted.
    """

    cell: Cell
    state: str
    seconds: float


@dataclass(frozen=True)
class Resources:
    """What an executor is made of.

    Attributes:
        folder: of the study; every process that works on cells must see it.
        workers: cells at a time; None for what suits the machine.
        threads: of each, on a CPU.
        per_gpu: cells that share a GPU.
        launcher: command that starts the ranks of pre-finetuning cells; none: one process.
        address: of a cluster, where the executor knows one.
        fork: nothing was computed in this process yet, and copies of it may work.
    """

    folder: Path
    workers: int | None = None
    threads: int = 1
    per_gpu: int = 1
    launcher: tuple[str, ...] = ()
    address: str | None = None
    fork: bool = False


class Executor(ABC):
    """Works on cells.

    Attributes:
        size: cells it takes at a time.
    """

    size: int

    @abstractmethod
    def submit(self, cell: Cell) -> None:
        """Start a cell (`mtlplug.study.cell.run_cell`); called when fewer than `size` are out."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Ended]:
        """The cells that ended since; an empty list where none does in so many seconds."""

    @abstractmethod
    def close(self) -> None:
        """Stop at once, whatever is unfinished."""


Factory = Callable[[Resources], Executor]


def executors(plugins: Plugins) -> dict[str, Factory]:
    """All executors by name: ours, and those of plugins."""
    return plugins.registry.of("executor", {"local": _local, "ray": _ray})


def make_executor(name: str, resources: Resources, plugins: Plugins) -> Executor:
    """Start an executor.

    Raises:
        MtlplugError: there is none of this name, or it lacks something.
    """
    known: Mapping[str, Factory] = executors(plugins)
    if name not in known:
        raise unknown("executor", name, known)
    return known[name](resources)


def _local(resources: Resources) -> Executor:
    from mtlplug.study.pool import Pool

    return Pool.of(resources)


def _ray(resources: Resources) -> Executor:
    from mtlplug.study.ray_cluster import RayCluster

    return RayCluster(resources)
