"""Trackers: what goes to metrics.jsonl arrives in the libraries that people look at."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest

from mtlplug.errors import MtlplugError
from mtlplug.training.trackers import TRACKERS, numbers_of, trackers_of
from tests import small_suite
from tests.training.runs import run

LINES = (
    {"epoch": -1, "event": "untrained", "step": 0, "scores": {"mood": {"loss": 0.7, "f1": 3.0}}},
    {"epoch": 0, "event": "step", "step": 2, "loss": 0.5, "gradient_norm": None},
    {"epoch": 0, "event": "step", "step": 4, "loss": 0.25, "gradient_norm": 2.0},
    {"epoch": 0, "event": "validation", "step": 4, "mean_loss": 0.4, "best": True,
     "scores": {"mood": {"loss": 0.4, "f1": 50.0}}},
)  # fmt: skip
RUN = {"options": {"groups": "C", "seed": 13, "data": None}}
EXPECTED = {
    "train/loss": [(2, 0.5), (4, 0.25)],
    "train/gradient_norm": [(4, 2.0)],
    "valid/mean_loss": [(4, 0.4)],
    "valid/mood/f1": [(0, 3.0), (4, 50.0)],
}
"""By name, steps and values."""


def needed(module: str) -> None:
    """Skip where a library is not installed."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed; it is an extra")


def track(name: str, folder: Path) -> None:
    """Two halves of a run: it is interrupted after two lines, and goes on."""
    for lines, report in ((LINES[:2], None), (LINES[2:], {"epochs": 1})):
        (tracker,) = trackers_of(name)
        tracker.open(RUN, folder)
        for line in lines:
            tracker.mtlplug_log(line)
        tracker.mtlplug_run_end(report)


def test_tensorboard_shows_all_lines(tmp_path: Path) -> None:
    """Both halves of an interrupted run are one run in TensorBoard's own reader."""
    needed("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track("tensorboard", tmp_path)
    shown = EventAccumulator(str(tmp_path / "trackers" / "tensorboard"))
    shown.Reload()
    for name, expected in EXPECTED.items():
        points = [(each.step, pytest.approx(each.value)) for each in shown.Scalars(name)]
        assert points == expected
    assert "text_summary" in str(shown.Tags()["tensors"])


def test_mlflow_keeps_all_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interrupted run goes on under its id; options are its parameters."""
    needed("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    track("mlflow", tmp_path)
    client = MlflowClient()
    experiment = client.get_experiment_by_name("mtlplug")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params == {"groups": "C", "seed": "13", "data": "None"}
    for name, expected in EXPECTED.items():
        points = client.get_metric_history(found.info.run_id, name)
        assert [(each.step, each.value) for each in points] == expected


def test_wandb_writes_all_lines_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both halves go to files of one run id; without a network, as WANDB_MODE says."""
    needed("wandb")
    for key, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(key, value)
    track("wandb", tmp_path)
    name = (tmp_path / "trackers" / "wandb.id").read_text().strip()
    wanted = {key.encode() for key in (*EXPECTED, "mtlplug")}
    until = time.monotonic() + 20
    while time.monotonic() < until and wanted:  # wandb's own process writes them a little later
        files = (tmp_path / "trackers" / "wandb").glob(f"offline-run-*-{name}/run-{name}.wandb")
        written = b"".join(file.read_bytes() for file in files)
        wanted = {key for key in wanted if key not in written}
        time.sleep(0.1)
    assert not wanted


class Trackio(types.ModuleType):
    """Stands in for trackio, which was not at hand."""

    def __init__(self) -> None:
        super().__init__("trackio")
        self.calls: list[Any] = []
        self.__spec__ = importlib.util.spec_from_loader("trackio", None)

    def init(self, **given: Any) -> None:
        """Notes the run."""
        self.calls.append(("init", given["project"], given["name"], given["resume"]))

    def log(self, values: dict[str, float], step: int) -> None:
        """Notes a row."""
        self.calls.append((step, values))

    def finish(self) -> None:
        """Notes the end."""
        self.calls.append("finish")


def test_trackio_gets_all_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in of the same functions is called with them, and with one name for both halves."""
    trackio = Trackio()
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    track("trackio", tmp_path)
    begun = [call for call in trackio.calls if call[0] == "init"]
    assert len(begun) == 2
    assert begun[0] == begun[1]
    assert begun[0][1::2] == ("mtlplug", "allow")
    rows = [call for call in trackio.calls if isinstance(call[0], int)]
    for name, expected in EXPECTED.items():
        assert [(step, values[name]) for step, values in rows if name in values] == expected


def test_numbers_of_a_line() -> None:
    """What is no number is left out."""
    found = [numbers_of(line) for line in LINES]
    assert found[1] == {"epoch": 0, "train/loss": 0.5}
    assert found[3] == {
        "epoch": 0, "valid/mean_loss": 0.4, "valid/mood/loss": 0.4, "valid/mood/f1": 50.0,
    }  # fmt: skip


def test_a_missing_library_and_an_unknown_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence each, with what to install or what there is."""
    assert [each.name for each in trackers_of("")] == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in TRACKERS:
        with pytest.raises(MtlplugError, match=rf"pip install 'mtlplug\[{name}\]'"):
            trackers_of(name)
    with pytest.raises(MtlplugError, match=r"unknown tracker in --log-to 'tensorbord'; known: mlf"):
        trackers_of("tensorbord")


def test_log_to_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run tells its trackers; one that cannot start ends it before the first step, with 2."""
    trackio = Trackio()
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    suite, folder = small_suite.write(tmp_path / "suite"), tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.delattr(Trackio, "init")
        result = run(suite, folder, "--log-to", "trackio")
    assert result.exit_code == 2
    assert "--log-to trackio cannot start (AttributeError" in result.stderr
    assert not (folder / "metrics.jsonl").exists()
    result = run(suite, folder, "--log-to", "trackio", "--max-epochs", "1")
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [call for call in trackio.calls if isinstance(call[0], int)]
    assert rows == [(line["step"], numbers_of(line)) for line in lines]
    assert trackio.calls[-1] == "finish"
