"""Where the cells of a study are: done, failed, ready, or waiting for others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from mtlplug.study.ledger import Ledger
from mtlplug.study.plan import Cell, Plan
from mtlplug.study.results import DONE, MISSING, Trial


@dataclass
class State:
    """Where the cells of a plan are.

    Attributes:
        done, failed: ended.
        ready: could start now, in the order in which they should.
        waiting: need a cell that has not ended.
        lost: need a cell that failed.
        to_come: by column how many repeats there will be whose rate no sweep has chosen yet; none
            where the encoder failed.
    """

    done: list[Cell] = field(default_factory=list)
    failed: list[Cell] = field(default_factory=list)
    ready: list[Cell] = field(default_factory=list)
    waiting: list[Cell] = field(default_factory=list)
    lost: list[Cell] = field(default_factory=list)
    to_come: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """All cells, the repeats to come too."""
        cells = (self.done, self.failed, self.ready, self.waiting, self.lost)
        return sum(map(len, cells)) + self.to_come.total()


class Overview:
    """Looks at a plan's cells in the ledger; a cell that has ended is read once."""

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self.plan = plan
        self.ledger = ledger
        self._pretrain = plan.pretrain_cells()
        self._sweep = list(plan.sweep_cells())
        self._sweeps: dict[tuple[str, str], list[Cell]] = {}
        for cell in self._sweep:
            self._sweeps.setdefault((cell.column, cell.target), []).append(cell)
        self._ended: dict[str, dict[str, Any]] = {}
        self._seeds: dict[tuple[str, str], list[Cell]] = {}

    def result(self, cell: str) -> dict[str, Any] | None:
        """What a cell gave; None where it has not ended."""
        if cell not in self._ended:
            found = self.ledger.result(cell)
            if found is None:
                return None
            self._ended[cell] = found
        return self._ended[cell]

    def cells(self) -> list[Cell]:
        """All cells known so far, in the order in which they should run."""
        for column, target in self._open_sweeps().keys() ^ self._sweeps.keys():
            if (column, target) not in self._seeds:
                sweep = [self.trial(cell) for cell in self._sweeps[column, target]]
                self._seeds[column, target] = self.plan.seed_cells(column, target, sweep)
        seeds = [cell for pair in self._sweeps for cell in self._seeds.get(pair, [])]
        # The costliest first, so that at the end nobody waits long for the last one.
        seeds.sort(key=lambda cell: -cell.cost)
        return [*self._pretrain, *self._sweep, *seeds]

    def look(self) -> State:
        """Where all cells are."""
        cells = self.cells()
        state = State()
        for cell in cells:
            ended = self.result(cell.name)
            encoder = self.result(cell.encoder) if cell.encoder else {"state": DONE}
            if ended is not None:
                (state.done if ended["state"] == DONE else state.failed).append(cell)
            elif encoder is None:
                state.waiting.append(cell)
            elif encoder["state"] == DONE:
                state.ready.append(cell)
            else:
                state.lost.append(cell)
        repeats = len(self.plan.settings.seeds) - 1
        lost = {cell.column for cell in state.lost}
        for column, _ in self._open_sweeps():
            if column not in lost:
                state.to_come[column] += repeats
        return state

    def trial(self, cell: Cell) -> Trial:
        """A finetuning cell as the tables see it."""
        result = self.result(cell.name)
        return trial_of(cell, result or {"state": MISSING})

    def _open_sweeps(self) -> dict[tuple[str, str], list[Cell]]:
        """The sweeps of which some cell has not ended, by column and target."""
        return {
            pair: cells
            for pair, cells in self._sweeps.items()
            if any(self.result(cell.name) is None for cell in cells)
        }


def trial_of(cell: Cell, result: dict[str, Any]) -> Trial:
    """A finetuning cell and what it gave."""
    report = result.get("report", {})
    task = report.get("tasks", {}).get(cell.target, {})
    return Trial(
        column=cell.column,
        target=cell.target,
        rate=cell.rate,
        seed=cell.seed,
        state=result["state"],
        score=task.get("score"),
        loss=task.get("loss"),
        epochs=report.get("epochs"),
        seconds=result.get("wall"),
        cell=cell.name,
        curve=[
            {"epoch": each["epoch"], "loss": each["loss"], "score": each["scores"][cell.target]}
            for each in result.get("curve", [])
        ],
        error=result.get("error", ""),
    )
