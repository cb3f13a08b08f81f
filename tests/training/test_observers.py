"""Plugins that watch a run: what they hear, once, and that their faults are not the run's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mtlplug.training.engine import Engine
from mtlplug.training.folder import RunFolder
from tests import small_suite
from tests.training.runs import equal, read, result_of, run
from tests.training.test_resume import KilledError, at, kill

PLUGIN = '''
"""Writes down what it hears, beside the run's folder, and spoils what it gets."""

import json

import mtlplug


def tell(folder, *said):
    with (folder.parent / "heard.jsonl").open("a") as file:
        file.write(json.dumps(said) + "\\n")


@mtlplug.hookimpl
def mtlplug_run_start(run, folder, step):
    tell(folder, "start", step, sorted(run["tasks"]))
    run.clear()


@mtlplug.hookimpl
def mtlplug_log(event, folder):
    tell(folder, "log", dict(event))
    event.clear()


@mtlplug.hookimpl
def mtlplug_epoch_end(epoch, scores, folder):
    tell(folder, "epoch", epoch, {task: each["loss"] for task, each in scores.items()})
    scores.clear()


@mtlplug.hookimpl
def mtlplug_run_end(report, folder):
    tell(folder, "end", report and report["best_epoch"])
'''

FAULTY = """
import sys

import mtlplug


@mtlplug.hookimpl
def mtlplug_run_start():
    raise ValueError("no disk")


@mtlplug.hookimpl
def mtlplug_log():
    sys.exit("no net")


@mtlplug.hookimpl
def mtlplug_epoch_end():
    raise KeyError("score")


@mtlplug.hookimpl
def mtlplug_run_end():
    raise OSError("gone")
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small suite, with two plugins beside it."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "hears_runs.py").write_text(PLUGIN)
    (folder / "faulty.py").write_text(FAULTY)
    return small_suite.write(folder)


def watched(suite: Path, folder: Path, *more: str) -> Any:
    """A run that the plugin watches."""
    return run(suite, folder, "-p", suite.with_name("hears_runs.py"), *more)


def heard(folder: Path) -> list[Any]:
    """What the plugin wrote down."""
    text = (folder.parent / "heard.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def unbroken(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was watched."""
    folder = tmp_path_factory.mktemp("watched") / "run"
    result = watched(suite, folder)
    assert result.exit_code == 0, result.output
    return folder


def test_mtlplug_run_start_and_end(unbroken: Path) -> None:
    """The first and the last word: what run.json and report.json hold."""
    said = heard(unbroken)
    assert said[0] == ["start", 0, ["kinds", "spans", "tags"]]
    assert said[-1] == ["end", read(unbroken, "report.json")["best_epoch"]]


def test_mtlplug_log_hears_metrics_jsonl(unbroken: Path) -> None:
    """Every line, as it is in the file, in its order; what a plugin does to it changes nothing."""
    text = (unbroken / "metrics.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [each[1] for each in heard(unbroken) if each[0] == "log"] == lines
    assert [line["step"] for line in lines] == [0, 2, 4, 6, 8, 9, 9, 11, 13, 15, 17, 18, 18]


def test_mtlplug_epoch_end_hears_scores(unbroken: Path) -> None:
    """Once an epoch, counted from 1, with the scores of its validation."""
    epochs = [each for each in heard(unbroken) if each[0] == "epoch"]
    assert [each[1] for each in epochs] == [1, 2]
    best = epochs[read(unbroken, "report.json")["best_epoch"] - 1][2]
    tasks = read(unbroken, "report.json")["tasks"]
    assert best == {name: task["loss"] for name, task in tasks.items()}


def test_mtlplug_run_end_without_a_report(
    suite: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed run ends without one; what is done again when it goes on is told once.

    Killed twice, in the second epoch, after lines that no checkpoint has.
    """
    folder = tmp_path / "run"
    for call in (17, 5):
        with monkeypatch.context() as patched:
            at(patched, Engine, "update", call, kill)
            assert isinstance(watched(suite, folder).exception, KilledError)
        assert heard(folder)[-1] == ["end", None]
    assert read(folder, "told.json") == [15, 0]
    assert watched(suite, folder).exit_code == 0
    said, expected = heard(folder), heard(unbroken)
    assert [each[1] for each in said if each[0] == "start"] == [0, 9, 9]
    for kind in ("log", "epoch"):
        ours = [[*each[1:]] for each in said if each[0] == kind]
        theirs = [[*each[1:]] for each in expected if each[0] == kind]
        assert [_timeless(each) for each in ours] == [_timeless(each) for each in theirs]
    assert not (folder / "told.json").exists()


def _timeless(said: list[Any]) -> list[Any]:
    timed = ("tokens_per_second", "loader_wait")
    return [
        {k: v for k, v in each.items() if k not in timed} if isinstance(each, dict) else each
        for each in said
    ]


def test_a_faulty_plugin_is_named_and_the_run_goes_on(
    suite: Path, unbroken: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of its faults once, with its hook; the result is that of a run without it."""
    result = run(suite, tmp_path / "run", "-p", suite.with_name("faulty.py"))
    assert result.exit_code == 0
    told = [record.getMessage() for record in caplog.records if "faulty" in record.getMessage()]
    reasons = ("run_start (ValueError: no disk", "log (SystemExit: no net", "epoch_end (KeyError")
    for line, reason in zip(told, (*reasons, "run_end (OSError: gone"), strict=True):
        assert reason in line
        assert line.endswith("the run goes on")
    assert equal(result_of(tmp_path / "run")[1], result_of(unbroken)[1])


def test_the_last_whole_line(tmp_path: Path) -> None:
    """Half a line, and what is no line of ours, are passed over."""
    folder = RunFolder(tmp_path)
    assert folder.last_line() is None
    folder.log({"event": "step", "step": 3})
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('5\n{"a": 1}\nnonsense\n{"event": "step", "st')
    assert folder.last_line() == {"event": "step", "step": 3}
