"""The loop over cells: what runs when, with an executor that trains nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from mtlplug.errors import NoRoomError
from mtlplug.study.cell import BUSY, NO_ROOM
from mtlplug.study.driver import drive
from mtlplug.study.executors import Ended, Executor
from mtlplug.study.ledger import Ledger
from mtlplug.study.overview import Overview, State
from mtlplug.study.plan import Cell, Plan
from mtlplug.study.results import DONE, FAILED
from mtlplug.study.settings import FINETUNE, PRETRAIN
from tests.study.tiny import FakePlan


def good(cell: Cell) -> dict[str, Any]:
    """A result whose score is best at rate 1e-4."""
    if cell.kind == PRETRAIN:
        return {"state": DONE, "wall": 1.0, "report": {}}
    task = {"score": 50.0 - cell.rate + cell.seed, "loss": 1.0}
    return {"state": DONE, "wall": 1.0, "report": {"epochs": 2, "tasks": {cell.target: task}}}


class FakeExecutor(Executor):
    """Ends one cell at a time, the last one submitted first; notes the order."""

    def __init__(
        self, ledger: Ledger, size: int = 2, outcome: Callable[[Cell], dict[str, Any]] = good
    ) -> None:
        self.ledger, self.size, self.outcome = ledger, size, outcome
        self.out: list[Cell] = []
        self.started: list[Cell] = []
        self.most = 0

    def submit(self, cell: Cell) -> None:
        """Take a cell."""
        self.started.append(cell)
        self.out.append(cell)
        self.most = max(self.most, len(self.out))

    def wait(self, seconds: float) -> list[Ended]:
        """End the last one."""
        if not self.out:
            return []
        cell = self.out.pop()
        result = self.outcome(cell)
        if result["state"] in (DONE, FAILED):
            self.ledger.record(cell.name, result)
        return [Ended(cell, result["state"], 0.0)]

    def close(self) -> None:
        """Nothing to stop."""


def prepared(tmp_path: Path) -> tuple[Overview, Ledger]:
    """A fresh folder and the fake plan's cells."""
    ledger = Ledger(tmp_path)
    ledger.write_study({"settings": {}, "options": {}})
    return Overview(cast(Plan, FakePlan()), ledger), ledger


def run(overview: Overview, executor: FakeExecutor, *, exclusive: bool = False) -> State:
    """Drive to the end."""
    return drive(overview, executor, exclusive=exclusive, tell=lambda *_: None)


def test_every_cell_runs_once_and_encoders_come_first(tmp_path: Path) -> None:
    """2 encoders, 3 columns x 2 targets x (2 rates + 2 more seeds); none before its encoder."""
    overview, ledger = prepared(tmp_path)
    before = overview.look()
    assert (before.total, before.to_come.total()) == (26, 12)
    executor = FakeExecutor(ledger)
    state = run(overview, executor)
    names = [cell.name for cell in executor.started]
    assert len(state.done) == len(names) == len(set(names)) == 26
    assert executor.most == executor.size
    assert [cell.kind for cell in executor.started[:2]] == [PRETRAIN, PRETRAIN]
    for number, cell in enumerate(executor.started):
        assert cell.encoder is None or cell.encoder in names[:number]
    seeds = [cell for cell in executor.started if cell.kind == FINETUNE and cell.seed > 1]
    assert {cell.rate for cell in seeds} == {1e-4}


def test_no_process_waits_for_what_is_told(tmp_path: Path) -> None:
    """When a cell's end is told the next cell has been started, as long as there is one."""
    overview, ledger = prepared(tmp_path)
    executor = FakeExecutor(ledger)
    busy = []
    drive(overview, executor, exclusive=False, tell=lambda *_: busy.append(len(executor.out)))
    assert len(busy) == 26
    # Towards the end repeats wait for the last cell of their sweep.
    assert busy[:16] == [executor.size] * 16


@pytest.mark.parametrize("size", [1, 2, 5])
def test_cells_that_end_at_once_are_counted_one_by_one(tmp_path: Path, size: int) -> None:
    """No number is left out or comes twice, also where a cell has ended that is told later."""
    overview, ledger = prepared(tmp_path)

    class Together(FakeExecutor):
        def wait(self, seconds: float) -> list[Ended]:
            """End all, and give back two of them at most."""
            for cell in self.out:
                ledger.record(cell.name, good(cell))
            given, self.out = self.out[:2], self.out[2:]
            return [Ended(cell, DONE, 0.0) for cell in given]

    told: list[tuple[int, int]] = []
    executor = Together(ledger, size)
    drive(overview, executor, exclusive=False, tell=lambda _, *which: told.append(which))
    assert told == [(number, 26) for number in range(1, 27)]


def test_the_costliest_repeats_come_first(tmp_path: Path) -> None:
    """So that the last cell of all is a short one."""
    plan = FakePlan()
    plan.costs = {"one": 1.0, "two": 2.0}
    _, ledger = prepared(tmp_path)
    overview = Overview(cast(Plan, plan), ledger)
    run(overview, FakeExecutor(ledger))
    assert [cell.target for cell in overview.cells()[-12:]] == ["two"] * 6 + ["one"] * 6


def test_a_second_start_runs_only_what_is_missing(tmp_path: Path) -> None:
    """Results that are there are not made again."""
    overview, ledger = prepared(tmp_path)
    run(overview, FakeExecutor(ledger))
    gone = overview.cells()[5].name
    (ledger.cells / f"{gone}.json").unlink()
    executor = FakeExecutor(ledger)
    run(Overview(overview.plan, ledger), executor)
    assert [cell.name for cell in executor.started] == [gone]


def test_a_failed_cell_costs_itself_alone(tmp_path: Path) -> None:
    """The rate that failed is passed over; seeds run at the other one."""
    overview, ledger = prepared(tmp_path)

    def outcome(cell: Cell) -> dict[str, Any]:
        bad = cell.kind == FINETUNE and (cell.column, cell.rate) == ("SL", 1e-4)
        return {"state": FAILED, "error": "no memory"} if bad else good(cell)

    state = run(overview, FakeExecutor(ledger, outcome=outcome))
    assert len(state.failed) == 2
    assert len(state.done) == 24
    assert {cell.rate for cell in state.done if cell.column == "SL" and cell.seed == 2} == {1e-3}


def test_a_full_disk_ends_the_study_and_fails_no_cell(tmp_path: Path) -> None:
    """No other cell would do better, and the same command goes on."""
    overview, ledger = prepared(tmp_path)
    executor = FakeExecutor(ledger, outcome=lambda _: {"state": NO_ROOM})
    with pytest.raises(NoRoomError, match="is full; make room, and the same command goes on"):
        run(overview, executor)
    assert not list(ledger.cells.glob("*.json"))


def test_what_needs_a_failed_encoder_is_lost_and_the_rest_runs(tmp_path: Path) -> None:
    """Its finetuning cells are counted, not run."""
    overview, ledger = prepared(tmp_path)

    def outcome(cell: Cell) -> dict[str, Any]:
        bad = cell.kind == PRETRAIN and cell.column == "SL"
        return {"state": FAILED, "error": "boom"} if bad else good(cell)

    executor = FakeExecutor(ledger, outcome=outcome)
    state = run(overview, executor)
    assert len(state.lost) == 4
    assert state.to_come.total() == 0
    assert state.total == 1 + 1 + 4 + 2 * 8
    assert not [cell for cell in executor.started if cell.column == "SL" and cell.kind == FINETUNE]
    assert len(state.done) == 1 + 2 * 8


def test_cells_that_another_driver_holds_are_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not started twice, and the loop does not end before they have."""
    overview, ledger = prepared(tmp_path)
    theirs = overview.cells()[2].name
    looks = 0

    def busy(name: str) -> bool:
        nonlocal looks
        looks += name == theirs
        if looks == 4:
            ledger.record(theirs, good(next(c for c in overview.cells() if c.name == theirs)))
        return name == theirs and looks < 4

    monkeypatch.setattr(ledger, "busy", busy)
    executor = FakeExecutor(
        ledger, outcome=lambda cell: {"state": BUSY} if cell.name == theirs else good(cell)
    )
    state = run(overview, executor)
    assert [cell.name for cell in executor.started].count(theirs) == 1
    assert len(state.done) == 26


def test_a_launched_cell_has_the_machine_for_itself(tmp_path: Path) -> None:
    """With a launcher nothing runs beside pre-finetuning."""
    overview, ledger = prepared(tmp_path)
    beside: list[int] = []

    class Watching(FakeExecutor):
        def submit(self, cell: Cell) -> None:
            super().submit(cell)
            if any(each.kind == PRETRAIN for each in self.out):
                beside.append(len(self.out))

    run(overview, Watching(ledger), exclusive=True)
    assert beside == [1, 1]
