"""The folder of a study: results appear whole and once, and cells are held by one process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mtlplug.errors import MtlplugError
from mtlplug.study.ledger import Ledger

HOLD = """
import sys, time
from pathlib import Path
from mtlplug.study.ledger import Ledger
with Ledger(Path(sys.argv[1])).claimed("cell") as lock:
    print("held" if lock else "busy", flush=True)
    time.sleep(60)
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """Another process that claims the cell "cell"; returns when it has said how that went."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_result_is_kept_and_its_run_folder_is_not(tmp_path: Path) -> None:
    """What an unfinished cell needs goes when its result is there."""
    ledger = Ledger(tmp_path)
    ledger.write_study({"settings": {}, "options": {}})
    ledger.run_folder("cell").mkdir(parents=True)
    ledger.log_file("cell").write_text("noise")
    assert ledger.state("cell") is None
    ledger.record("cell", {"state": "done", "report": {"x": 1}})
    assert ledger.result("cell") == {"state": "done", "report": {"x": 1}}
    assert not ledger.run_folder("cell").exists()
    assert not ledger.log_file("cell").exists()
    assert [path.name for path in ledger.cells.iterdir()] == ["cell.json"]


def test_a_failed_cell_keeps_its_log_and_can_be_tried_again(tmp_path: Path) -> None:
    """Only failures are forgotten."""
    ledger = Ledger(tmp_path)
    ledger.write_study({"settings": {}, "options": {}})
    ledger.log_file("bad").write_text("why")
    ledger.record("bad", {"state": "failed"})
    ledger.record("good", {"state": "done"})
    assert ledger.log_file("bad").read_text() == "why"
    assert ledger.forget_failures() == 1
    assert (ledger.state("bad"), ledger.state("good")) == (None, "done")


def test_a_cell_ends_well_or_badly(tmp_path: Path) -> None:
    """Nothing else is recorded."""
    with pytest.raises(ValueError, match="done or failed"):
        Ledger(tmp_path).record("cell", {"state": "busy"})


def test_one_process_holds_a_cell_until_it_dies(tmp_path: Path) -> None:
    """Killed with SIGKILL it lets go at once; before, nobody else gets it."""
    ledger = Ledger(tmp_path)
    other = hold(tmp_path)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert ledger.busy("cell")
        assert not ledger.busy("another")
        with ledger.claimed("cell") as lock:
            assert lock is None
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
    with ledger.claimed("cell") as lock:
        assert lock is not None


def test_the_lock_goes_with_the_result(tmp_path: Path) -> None:
    """A study of thousands of cells leaves no lock files behind."""
    ledger = Ledger(tmp_path)
    with ledger.claimed("cell"):
        ledger.record("cell", {"state": "done"})
    assert list(ledger.cells.glob("*.lock")) == []


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    """Nothing is written into a folder with other things, or below a file."""
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(MtlplugError, match="holds no study"):
        Ledger(tmp_path).check_place()
    with pytest.raises(MtlplugError, match="is a file"):
        Ledger(tmp_path / "thesis.tex").check_place()
    Ledger(tmp_path / "new").check_place()
    (tmp_path / "begun" / "cells").mkdir(parents=True)
    (tmp_path / "begun" / "study.json.1a2b.tmp").touch()
    Ledger(tmp_path / "begun").check_place()  # killed before there was a study.json


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"a": 1})])
def test_a_broken_study_file_is_named(tmp_path: Path, text: str) -> None:
    """With its path, and what to do."""
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(MtlplugError, match=r"study\.json"):
        Ledger(tmp_path).study()
