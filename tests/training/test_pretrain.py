"""A run from options to files: what it writes, refuses to repeat, and resumes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import mtlplug_c
import mtlplug_qa
import mtlplug_sl
import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

import mtlplug
from tests import small_suite, toy
from tests.training.runs import GROUPS, equal, lines, read, result_of, run


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small suite."""
    return small_suite.write(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def trained(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The folder of a complete run, and what the run printed."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    result = run(suite, folder)
    assert result.exit_code == 0, result.output
    return folder, result


def test_the_encoder_opens_with_transformers(trained: tuple[Path, Result]) -> None:
    """`encoder/` is a model folder like any other, and training has changed the weights."""
    folder, _ = trained
    model, info = AutoModel.from_pretrained(
        folder / "encoder", add_pooling_layer=False, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    tokens = AutoTokenizer.from_pretrained(folder / "encoder")("w1 w2", return_tensors="pt")
    assert model(**tokens).last_hidden_state.shape == (1, 4, 16)
    ours, before = model.state_dict(), toy.encoder().model.state_dict()
    assert ours.keys() == before.keys()
    moved = {name for name, value in ours.items() if not torch.equal(value, before[name])}
    assert "encoder.layer.0.attention.self.query.weight" in moved


def test_the_heads_are_saved(trained: tuple[Path, Result]) -> None:
    """One safetensors file per task, with a score per label."""
    folder, _ = trained
    heads = {path.stem: load_file(path) for path in (folder / "heads").iterdir()}
    assert {name: len(head["projection.bias"]) for name, head in heads.items()} == {
        "tags": 3,
        "spans": 2,
        "kinds": 2,
    }


def test_run_json_has_everything_resolved(trained: tuple[Path, Result], suite: Path) -> None:
    """Options, labels, rows, plugins, versions and the DeepSpeed configuration."""
    saved = read(trained[0], "run.json")
    options = saved["options"]
    assert (options["groups"], options["batch_size"], options["max_epochs"]) == (GROUPS, 8, 2)
    assert (options["seed"], options["precision"]) == (13, "fp32")
    assert options["model"] == str(suite.parent / "model")
    assert saved["tasks"]["tags"]["labels"] == ["O", "B-LOW", "I-LOW"]
    assert saved["tasks"]["kinds"]["labels"] == ["even", "odd"]
    assert saved["tasks"]["spans"]["splits"]["valid"]["rows"] == 8
    assert saved["versions"]["torch"] == torch.__version__
    assert saved["mtlplug"] == mtlplug.__version__
    assert {plugin["name"] for plugin in saved["plugins"]} >= {"sl", "qa", "c"}
    deepspeed = saved["deepspeed"]
    assert deepspeed["zero_optimization"]["stage"] == 1
    assert (deepspeed["train_batch_size"], deepspeed["gradient_clipping"]) == (8, 1.0)


def test_the_report_and_the_table(trained: tuple[Path, Result]) -> None:
    """Scores of the best epoch by task, in the file and on the screen."""
    folder, result = trained
    report = read(folder, "report.json")
    assert set(report["tasks"]) == {"tags", "spans", "kinds"}
    assert report["tasks"]["kinds"]["metric"] == "accuracy"
    assert report["epochs"] == 2
    best = report["best_epoch"]
    (line,) = [line for line in lines(folder) if line["epoch"] == best - 1 and line.get("best")]
    for name, task in report["tasks"].items():
        assert task["score"] == line["scores"][name]["headline"]
        (row,) = [row for row in result.stdout.splitlines() if f"│ {name} " in row and "." in row]
        assert f"{task['score']:.1f}" in row
        assert f"{task['untrained']:.1f}" in row
    assert report["best_mean_loss"] == pytest.approx(line["mean_loss"])
    assert str(folder / "encoder") in result.stdout


def test_metrics_have_steps_and_validation(trained: tuple[Path, Result]) -> None:
    """A line before training, one per two steps as asked for, and one per epoch."""
    events = [(line["epoch"], line["event"]) for line in lines(trained[0])]
    steps = math.ceil(3 * small_suite.ROWS["train"] / 8)
    each = math.ceil(steps / 2)
    assert events == [
        (-1, "untrained"),
        *[(0, "step")] * each,
        (0, "validation"),
        *[(1, "step")] * each,
        (1, "validation"),
    ]
    last = [line for line in lines(trained[0]) if line["event"] == "step"][-1]
    assert last["step"] == 2 * steps
    assert last["learning_rate"] == 0


def test_nothing_unfinished_is_left(trained: tuple[Path, Result]) -> None:
    """A complete run's folder holds its results and nothing else."""
    assert sorted(path.name for path in trained[0].iterdir()) == [
        "encoder",
        "heads",
        "metrics.jsonl",
        "report.json",
        "run.json",
    ]


def test_both_spellings_of_options(
    suite: Path, tmp_path: Path, trained: tuple[Path, Result]
) -> None:
    """`--max_epochs` is `--max-epochs`; the same run gives the same result to the last bit."""
    for folder, option in (("a", "--max-epochs"), ("b", "--max_epochs")):
        assert run(suite, tmp_path / folder, option, "1").exit_code == 0
    (report, weights), (other, others) = result_of(tmp_path / "a"), result_of(tmp_path / "b")
    assert report == other
    assert report["epochs"] == 1
    assert equal(weights, others)
    assert not equal(weights, result_of(trained[0])[1])


def test_a_complete_run_is_only_shown(suite: Path, trained: tuple[Path, Result]) -> None:
    """Started again it says so, shows the scores, and touches no file."""
    folder, first = trained
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = run(suite, folder)
    assert result.exit_code == 0
    assert "is complete" in result.stdout
    assert result.stdout.split("validation scores")[1] in first.stdout
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_another_run_needs_overwrite(suite: Path, tmp_path: Path) -> None:
    """Other options are refused with the difference shown; --overwrite starts over with them."""
    folder = tmp_path / "run"
    assert run(suite, folder, "--max-epochs", "1").exit_code == 0
    before = result_of(folder)
    other = ("--max-epochs", "1", "--learning-rate", "5e-4")
    refused = run(suite, folder, *other)
    assert refused.exit_code == 2
    assert "learning_rate: 0.001 there, 0.0005 now" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert equal(before[1], result_of(folder)[1])
    assert run(suite, folder, *other, "--overwrite").exit_code == 0
    assert not equal(before[1], result_of(folder)[1])
    assert read(folder, "run.json")["options"]["learning_rate"] == 5e-4


class StoppedError(Exception):
    """Stands for a killed process."""


def test_features_are_made_once(
    suite: Path, tmp_path: Path, trained: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run on the same tasks reads what is stored; other lengths are made anew."""

    def fail(*_: Any) -> Any:
        raise StoppedError

    for owner in (
        mtlplug_sl.SequenceLabelling,
        mtlplug_qa.QuestionAnswering,
        mtlplug_c.Classification,
    ):
        monkeypatch.setattr(owner, "features", fail)
    assert run(suite, tmp_path / "a", "--seed", "7", "--max-epochs", "1").exit_code == 0
    other = run(suite, tmp_path / "b", "--max-length", "32")
    assert isinstance(other.exception, StoppedError)


def test_the_loaders_share_is_reported(trained: tuple[Path, Result]) -> None:
    """Every line of a step, and the report, say how much of the time was spent waiting."""
    folder, _ = trained
    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    steps = [line for line in map(json.loads, text.splitlines()) if line["event"] == "step"]
    assert steps
    assert all(0 <= line["loader_wait"] < 1 for line in steps)
    report = read(folder, "report.json")
    assert 0 <= report["loader_wait"] < 1
    assert 0 <= report["seconds"]["loader"] <= report["seconds"]["training"]
