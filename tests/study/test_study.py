"""A study from the command line: planned, run, killed, run again, reported."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mtlplug.study.ledger import Ledger
from mtlplug.study.results import Results
from tests import own_classes, small_suite
from tests.study import tiny

CELLS = 20
"""2 encoders, and 3 columns x 2 targets x (2 rates + 1 more seed)."""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny suite's file."""
    return tiny.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def finished(suite: Path) -> Path:
    """The folder of a study that ran through."""
    folder = suite.parent / "study"
    result = small_suite.command("study", "run", suite, "--output", folder)
    assert result.exit_code == 0, result.output
    assert f"{CELLS} of {CELLS} cells done" in result.output
    return folder


def results(folder: Path) -> dict[str, Any]:
    """What a study found, without what differs from run to run: times, and where it lies."""
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for key in ("facts", "price"):
        del found[key]
    for each in [*found["columns"], *found["trials"]]:
        for key in ("seconds", "seconds_per_epoch", "command"):
            each.pop(key, None)
    return dict(found)


def test_a_plan_runs_nothing(suite: Path, tmp_path: Path) -> None:
    """It says what there is to do and what it takes."""
    result = small_suite.command("study", "plan", suite, "--output", tmp_path / "s", "--price", 2)
    assert result.exit_code == 0, result.output
    assert "to do" in result.output
    assert "of one worker" in result.output
    assert "at 2 an hour" in result.output
    assert list(Ledger(tmp_path / "s").cells.iterdir()) == []


def test_every_run_has_a_score_and_a_command(finished: Path) -> None:
    """All seeds of every column and target, with what repeats them."""
    found = Results.from_dict(json.loads((finished / "results.json").read_text()))
    assert [column.name for column in found.columns] == ["baseline", "SL", "SL+C"]
    assert len(found.trials) == CELLS - 2
    for target in found.targets:
        for column in found.columns:
            assert found.complete(target.name, column.name)
    assert all(column.seconds_per_epoch for column in found.columns[1:])
    assert all(trial.curve and "--learning-rate" in trial.command for trial in found.trials)


def test_a_cell_is_the_run_its_command_repeats(finished: Path, tmp_path: Path) -> None:
    """`mtlplug run` with the options given gives the same score and loss, to the last bit."""
    found = Results.from_dict(json.loads((finished / "results.json").read_text()))
    trial = next(t for t in found.trials if (t.column, t.target) == ("SL", "more_kinds"))
    words = trial.command.split()[1:]
    result = small_suite.command(*words, "--output", tmp_path / "again")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "again" / "report.json").read_text())["tasks"]["more_kinds"]
    assert (report["score"], report["loss"]) == (trial.score, trial.loss)


def test_files_of_a_study(finished: Path) -> None:
    """Tables in four forms, one page, encoders; nothing unfinished."""
    tables = {path.name for path in (finished / "tables").iterdir()}
    for name in ("table_1", "table_2", "costs", "comparisons"):
        assert {f"{name}.{form}" for form in ("md", "tex", "csv", "json")} <= tables
    assert "<html" in (finished / "report.html").read_text()
    assert len(list((finished / "encoders").glob("*/encoder/model.safetensors"))) == 2
    assert not list(finished.rglob("*.tmp")) + list(finished.rglob("*.lock"))
    assert not list((finished / "runs").iterdir())


def test_a_finished_study_runs_nothing_again(suite: Path, finished: Path) -> None:
    """No result is touched; the report is written anew."""
    before = {path: path.stat().st_mtime_ns for path in (finished / "cells").iterdir()}
    result = small_suite.command("study", "run", suite, "--output", finished)
    assert result.exit_code == 0, result.output
    assert {path: path.stat().st_mtime_ns for path in (finished / "cells").iterdir()} == before


def test_status_and_report_need_the_folder_alone(finished: Path) -> None:
    """Everything else is in it."""
    status = small_suite.command("study", "status", finished)
    assert status.exit_code == 0, status.output
    assert "nothing is left to run" in status.output
    (finished / "report.html").unlink()
    report = small_suite.command("study", "report", finished, "--price", "3")
    assert report.exit_code == 0, report.output
    assert (finished / "report.html").exists()


def test_killed_at_any_moment_it_goes_on_to_the_same_results(
    suite: Path, finished: Path, tmp_path: Path
) -> None:
    """SIGKILL to the driver, then to a worker: the tables are those of the uninterrupted run."""
    command = [sys.executable, "-m", "mtlplug", "study", "run", str(suite), "--output"]
    folder = tmp_path / "killed"
    driver = subprocess.Popen([*command, str(folder)], env=small_suite.outside())
    _wait_for(lambda: len(list((folder / "cells").glob("*.json"))) >= 3)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    _wait_for(lambda: not _workers(folder))
    ended = {path: path.stat().st_mtime_ns for path in (folder / "cells").glob("*.json")}
    assert 3 <= len(ended) < CELLS
    again = small_suite.command("study", "run", suite, "--output", folder)
    assert again.exit_code == 0, again.output
    assert {path: path.stat().st_mtime_ns for path in ended} == ended
    assert results(folder) == results(finished)


@pytest.mark.parametrize("wish", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_end_it_says_how_to_go_on(suite: Path, tmp_path: Path, wish: int) -> None:
    """Exit code 3 within seconds, no process left."""
    folder = tmp_path / "study"
    command = [sys.executable, "-m", "mtlplug", "study", "run", str(suite), "--output"]
    driver = subprocess.Popen(
        [*command, str(folder)],
        env=small_suite.outside(),
        stdout=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores interrupts, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    _wait_for(lambda: any(_locked(folder)))
    driver.send_signal(wish)
    output = driver.communicate(timeout=30)[0]
    assert driver.returncode == 3, output
    assert "the same command goes on" in output
    assert _workers(folder) == []


def test_a_dying_worker_is_a_failed_cell(suite: Path, tmp_path: Path) -> None:
    """The others go on; the failure is named; --retry runs it again. A format is in a file."""
    folder = tmp_path / "study"
    words = ["study", "run", str(suite), "--groups", "baseline", *own_classes.WORDS]
    driver = subprocess.Popen(
        [sys.executable, "-m", "mtlplug", *words, "--output", str(folder)],
        env=small_suite.outside(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    _wait_for(lambda: any(_locked(folder)))
    os.kill(_workers(folder)[0], signal.SIGKILL)
    output = driver.communicate()[0]
    assert driver.returncode == 1, output
    assert "ended by SIGKILL" in output
    assert "run again with --retry" in output
    again = small_suite.command(*words, "--output", folder, "--retry")
    assert again.exit_code == 0, again.output


def test_a_worker_that_is_asked_to_end_costs_no_cell(suite: Path, tmp_path: Path) -> None:
    """A scheduler signals all processes of a job: what they were at is still to do, not failed."""
    folder = tmp_path / "study"
    words = ["study", "run", str(suite), "--groups", "baseline", "--output", str(folder)]
    driver = subprocess.Popen(
        [sys.executable, "-m", "mtlplug", *words],
        env=small_suite.outside(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    _wait_for(lambda: any(_locked(folder)))
    for worker in _workers(folder):
        os.kill(worker, signal.SIGTERM)
    output = driver.communicate()[0]
    assert driver.returncode == 0, output
    assert "FAILED" not in output


def test_finetune_prints_mean_and_deviation(suite: Path, finished: Path, tmp_path: Path) -> None:
    """One encoder, one task: the sweep, the seeds, and how to keep a model, with its plugins."""
    (run,) = (finished / "encoders").glob("SL-*")
    result = small_suite.command(
        *("finetune", "--encoder", run, "--task", "more_kinds", "--suite", suite),
        *("--output", tmp_path / "tuned", *own_classes.WORDS),
    )
    assert result.exit_code == 0, result.output
    assert "2 seeds" in result.output
    assert "±" in result.output
    assert "to keep a model: mtlplug run" in result.output
    assert "] finetune on more_kinds, rate" in result.output
    assert "baseline" not in result.output
    assert re.search(
        r"--output runs/\w+ " + re.escape(shlex.join(own_classes.WORDS)), result.output
    )
    # At the rate that was chosen, not at another of an equal score.
    rate = re.search(r"rate (\S+), 2 seeds", result.output)
    kept = re.search(r"to keep a model: .* --learning-rate (\S+)", result.output)
    assert rate
    assert kept
    assert float(rate[1]) == float(kept[1])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("study", "run", "nothing"), "unknown suite 'nothing'"),
        (("study", "plan", "dmo"), "unknown suite 'dmo' (did you mean 'demo'?)"),
        (("study", "status", "nowhere"), "holds no study"),
        (("study", "plan", "demo", "--rates", "fast"), "no list of numbers"),
        (("study", "plan", "demo", "--finetune", "batch_size"), "not of the form KEY=VALUE"),
        (("study", "run", "demo", "--executor", "none"), "unknown executor 'none'"),
        (("study", "run", "demo", "--workers", "0"), "0 is not in the range"),
        (("study", "plan", "demo", "--threads", "-1"), "-1 is not in the range"),
        (("finetune", "--encoder", "nowhere", "--task", "mail"), "nowhere is no folder"),
        (("finetune", "--encoder", ".", "--task", "x"), "unknown target 'x'; known"),
        (("finetune", "--encoder", ".", "--task", "fair"), "(did you mean 'fairs'?)"),
        (("finetune", "--encoder", ".", "--task", "fairs,mail"), "'fairs,mail' is not one task"),
    ],
)
def test_wrong_input_is_one_sentence(
    words: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, no traceback; signals are heard as before."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    result = small_suite.command(*words)
    assert signal.getsignal(signal.SIGTERM) == before
    assert result.exit_code == 2, result.output
    assert sentence in result.output
    assert "Traceback" not in result.output


def test_another_model_does_not_go_into_the_same_folder(
    suite: Path, finished: Path, minilm: str
) -> None:
    """Two studies would be mixed."""
    result = small_suite.command("study", "plan", suite, "--output", finished, "--model", minilm)
    assert result.exit_code == 2, result.output
    assert "holds a study with another model" in result.output


def _wait_for(condition: Any, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def _locked(folder: Path) -> list[Path]:
    return list((folder / "cells").glob("*.lock"))


def _workers(folder: Path) -> list[int]:
    """Processes that have a file of this study open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            files = [os.readlink(file) for file in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(file.startswith(str(folder / "cells")) and ".lock" in file for file in files):
            found.append(int(process.name))
    return found
