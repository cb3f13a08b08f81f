"""The same run under `deepspeed`, `torchrun` and alone, on one rank and on two."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mtlplug.results.evaluate import evaluate_run
from tests import own_classes, small_suite
from tests.small_suite import free_port
from tests.training.runs import lines, read, run

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
ZERO3 = {"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small tasks with an encoder."""
    return small_suite.write(tmp_path_factory.mktemp("launchers"))


def train(suite: Path, output: Path, launcher: list[str], *more: str) -> dict[str, Any]:
    """The report of a run under a launcher."""
    options = ["--groups", "SL+QA+C", "--suite", str(suite), "--output", str(output)]
    done = subprocess.run(
        [*launcher, str(ROOT / "mtlplug" / "run.py"), *options, "--max_epochs", "2", *more],
        cwd=output.parent,
        env=small_suite.outside(OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    report: dict[str, Any] = read(output, "report.json")
    return report


def untrained(report: dict[str, Any]) -> dict[str, float]:
    """Scores before the first step: they depend on nothing random but the seed."""
    return {name: task["untrained"] for name, task in report["tasks"].items()}


@pytest.fixture(scope="module")
def alone(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of the same run without a launcher."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    result = run(suite, folder, "--max_epochs", "2")
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = read(folder, "report.json")
    return report


def test_two_ranks_under_deepspeed(suite: Path, alone: dict[str, Any], tmp_path: Path) -> None:
    """ZeRO-3 on two ranks, heads absent in evaluation too, scores what one process scores.

    So it does with a format in a file, in the place of one that is switched off; and so does what
    it has saved.
    """
    config = tmp_path / "zero3.json"
    config.write_text(json.dumps(ZERO3))
    launcher = [str(BIN / "deepspeed"), "--num_gpus", "2", "--master_port", free_port()]
    more = ("--deepspeed-config", str(config), "--max-tokens", "40", *own_classes.WORDS)
    report = train(suite, tmp_path / "run", launcher, *more)
    assert (report["world_size"], report["zero_stage"]) == (2, 3)
    assert untrained(report) == pytest.approx(untrained(alone))
    assert report["best_mean_loss"] == pytest.approx(alone["best_mean_loss"], rel=0.2)
    for task in ("tags", "spans"):
        found = evaluate_run(tmp_path / "run", task).metrics
        expected = {"loss": report["tasks"][task]["loss"], **report["tasks"][task]["metrics"]}
        assert found == pytest.approx(expected)


def test_two_ranks_under_torchrun(suite: Path, alone: dict[str, Any], tmp_path: Path) -> None:
    """ZeRO-1 on two ranks writes one result, with a format in a file as without."""
    launcher = [str(BIN / "torchrun"), "--nproc-per-node", "2", "--master-port", free_port()]
    report = train(suite, tmp_path / "run", launcher, *own_classes.WORDS)
    assert (report["world_size"], report["zero_stage"]) == (2, 1)
    assert untrained(report) == pytest.approx(untrained(alone))
    logged = lines(tmp_path / "run")
    epochs = [line["epoch"] for line in logged if line["event"] == "validation"]
    assert epochs == [0, 1]
    heads = sorted(path.stem for path in (tmp_path / "run" / "heads").iterdir())
    assert heads == sorted(report["tasks"])


def test_a_mistake_keeps_its_exit_code_under_deepspeed(suite: Path, tmp_path: Path) -> None:
    """Two ranks, one sentence, exit code 2."""
    launcher = [str(BIN / "deepspeed"), "--num_gpus", "2", "--master_port", free_port()]
    done = subprocess.run(
        [*launcher, str(ROOT / "mtlplug" / "run.py"), "--groups", "XX", "--suite", str(suite)],
        cwd=tmp_path,
        env=small_suite.outside(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2
    assert (done.stdout + done.stderr).count("error: unknown group 'XX'") == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_port_in_use_is_one_sentence(suite: Path, tmp_path: Path) -> None:
    """With the way to choose another, and nothing written."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        ours = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
        done = subprocess.run(
            [sys.executable, str(ROOT / "mtlplug" / "run.py"), "--groups", "SL", "--suite", suite],
            cwd=tmp_path,
            env=small_suite.outside(**ours, MASTER_ADDR="127.0.0.1", MASTER_PORT=port),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 2
    assert f"error: port {port} of 127.0.0.1 is in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
