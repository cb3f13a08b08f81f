"""Trackers: what goes to metrics.jsonl arrives in the libraries that people look at."""

from __future__ import annotations

import importlib
import importlib.util
import json
import socket
import time
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


@pytest.fixture(scope="module")
def trackio(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The library; where it keeps its runs it asks once, when it is imported."""
    needed("trackio")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TRACKIO_DIR", str(tmp_path_factory.mktemp("trackio")))
        return importlib.import_module("trackio")


def rows_of(trackio: Any, project: str) -> list[tuple[int, dict[str, float]]]:
    """Steps and values of the only run of a project, as trackio's dashboard gets them."""
    (found,) = trackio.Api().runs(project)
    storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
    rows = storage.get_logs(project, found.name, run_id=found.id)
    return [(row.pop("step"), {k: v for k, v in row.items() if k != "timestamp"}) for row in rows]


def test_trackio_keeps_all_lines(
    trackio: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Both halves are one run with the options, on this machine alone, and without a word."""
    called: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: called.append(address))
    monkeypatch.setenv("TRACKIO_PROJECT", "halves")
    track("trackio", tmp_path)
    assert rows_of(trackio, "halves") == [(line["step"], numbers_of(line)) for line in LINES]
    (found,) = trackio.Api().runs("halves")
    assert RUN["options"].items() <= found.config.items()
    assert called == []
    assert capsys.readouterr().out == ""


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
    with pytest.raises(
        MtlplugError, match=r"'tensorbord' \(did you mean 'tensorboard'\?\); known: mlf"
    ):
        trackers_of("tensorbord")


def test_log_to_on_the_command_line(
    trackio: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run tells its trackers; one that cannot start ends it before the first step, with 2."""
    suite, folder = small_suite.write(tmp_path / "suite"), tmp_path / "run"
    monkeypatch.setenv("TRACKIO_SERVER_URL", "my.server")
    result = run(suite, folder, "--log-to", "trackio")
    assert result.exit_code == 2
    assert (
        "--log-to trackio cannot start (ValueError: `server_url` must be a full URL"
        in result.stderr
    )
    assert not (folder / "metrics.jsonl").exists()
    monkeypatch.delenv("TRACKIO_SERVER_URL")
    result = run(suite, folder, "--log-to", "trackio", "--max-epochs", "1")
    assert result.exit_code == 0, result.output
    assert "trackio" not in result.stdout.lower()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows_of(trackio, "mtlplug") == [(line["step"], numbers_of(line)) for line in lines]
