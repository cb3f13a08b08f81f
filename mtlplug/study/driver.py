"""Runs the cells of a study until none is left: the loop."""

from __future__ import annotations

from collections.abc import Callable

from mtlplug.errors import NoRoomError
from mtlplug.study.cell import NO_ROOM
from mtlplug.study.executors import Ended, Executor
from mtlplug.study.overview import Overview, State
from mtlplug.study.plan import Cell
from mtlplug.study.results import DONE, FAILED
from mtlplug.study.settings import PRETRAIN

SECONDS_BETWEEN_LOOKS = 2.0
"""How often cells that other drivers work on are looked after."""


def drive(
    overview: Overview,
    executor: Executor,
    *,
    exclusive: bool,
    tell: Callable[[Ended, int, int], None],
) -> State:
    """Run cells until all have ended or cannot start; returns where they are.

    Args:
        overview: the cells.
        executor: works on them.
        exclusive: a pre-finetuning cell has the machine for itself (its launcher takes all).
        tell: is told every cell that ends, how many have ended by then, and of how many.

    Raises:
        NoRoomError: a disk is full.
    """
    out: dict[str, Cell] = {}
    elsewhere: set[str] = set()
    through: list[Ended] = []
    while True:
        state = overview.look()
        elsewhere &= {cell.name for cell in state.ready}
        ready = [cell for cell in state.ready if cell.name not in out]
        for cell in _startable(ready, out, executor.size, elsewhere, exclusive=exclusive):
            executor.submit(cell)
            out[cell.name] = cell
        for place, ended in enumerate(through, 1):  # only now, when nobody waits for work
            untold = {*out, *(later.cell.name for later in through[place:])}
            known = [cell for cell in (*state.done, *state.failed) if cell.name not in untold]
            tell(ended, len(known), state.total)
        if not out and not elsewhere:
            return state
        through = []
        for ended in executor.wait(SECONDS_BETWEEN_LOOKS):
            del out[ended.cell.name]
            if ended.state == NO_ROOM:
                raise NoRoomError(
                    f"the disk of {overview.ledger.folder}, or of the cache, is full; make room, "
                    "and the same command goes on"
                )
            if ended.state in (DONE, FAILED):
                through.append(ended)
                elsewhere.discard(ended.cell.name)
            else:
                elsewhere.add(ended.cell.name)
        elsewhere = {name for name in elsewhere if overview.ledger.busy(name)}


def _startable(
    ready: list[Cell], out: dict[str, Cell], size: int, elsewhere: set[str], *, exclusive: bool
) -> list[Cell]:
    """Which cells to start now."""
    free = size - len(out)
    ready = [cell for cell in ready if cell.name not in elsewhere]
    if not exclusive:
        return ready[:free]
    if any(cell.kind == PRETRAIN for cell in out.values()):
        return []
    alone = [cell for cell in ready if cell.kind == PRETRAIN]
    return (alone[:1] if not out else []) if alone else ready[:free]
