"""How a cell ends that did not come to an end: nothing is recorded of it."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from mtlplug.errors import BusyError, MtlplugError, NoRoomError, StoppedError
from mtlplug.study import cell as cell_module
from mtlplug.study.cell import BUSY, NO_ROOM, STOPPED, _launched, run_cell
from mtlplug.study.ledger import Ledger
from mtlplug.study.results import FAILED
from mtlplug.training.folder import RunFolder
from tests.study.tiny import FakePlan

CELL = next(iter(FakePlan().sweep_cells()))


@pytest.mark.parametrize(
    ("error", "state"),
    [(StoppedError(), STOPPED), (BusyError(), BUSY), (NoRoomError(), NO_ROOM)],
)
def test_what_is_still_to_do(
    error: Exception, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal, ranks that are still at work, and a full disk are no failure of the cell."""

    def work(*_: object) -> None:
        raise error

    monkeypatch.setattr(cell_module, "_work", work)
    monkeypatch.setattr(cell_module, "SECONDS_BETWEEN_TRIES", 0.0)
    assert run_cell(tmp_path, CELL) == state
    assert Ledger(tmp_path).state(CELL.name) is None


def test_no_room_for_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that failed, and whose failure cannot be written either."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Ledger, "record", full)
    assert run_cell(tmp_path, CELL) == NO_ROOM
    monkeypatch.undo()
    monkeypatch.setattr(cell_module, "_work", full)
    assert run_cell(tmp_path, CELL) == FAILED


def test_ranks_of_an_earlier_launcher_are_waited_for(tmp_path: Path) -> None:
    """They hold the run's folder: no second launcher is started on it."""
    with RunFolder(tmp_path).held(), pytest.raises(BusyError, match="another run is at work"):
        _launched([sys.executable, "-c", "raise AssertionError"], {}, tmp_path)


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        ("raise SystemExit(3)", StoppedError),
        ("import os; os.kill(os.getpid(), 15)", StoppedError),
        ("raise SystemExit(1)", MtlplugError),
    ],
)
def test_a_launched_run_that_is_stopped_has_not_failed(
    ending: str, error: type[Exception], tmp_path: Path
) -> None:
    """Exit code 3 and the signals of schedulers mean that it can go on."""
    with pytest.raises(error):
        _launched([sys.executable, "-c", ending], {}, tmp_path)
