"""Cells on a Ray cluster of two nodes, one of which is lost in the middle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtlplug.study.results import Results
from tests import own_classes, small_suite
from tests.study import tiny

pytest.importorskip("ray", reason="Ray is not installed: pip install 'mtlplug[ray]'")

COLUMNS = ("baseline", "SL")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes on this machine: one without cores for the driver, and one of one core."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_DISABLE_IMPORT_WARNING", "1")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def test_a_lost_node_costs_time_alone(cluster: Any, tmp_path: Path) -> None:
    """Every cell ends once, with results equal to those of the local executor; -p holds there."""
    suite = tiny.write(tmp_path)
    folder = tmp_path / "study"
    command = [sys.executable, "-m", "mtlplug", "study", "run", str(suite), "--groups", "SL"]
    options = ["--executor", "ray", "--address", cluster.address, "--output", str(folder)]
    options += own_classes.WORDS
    environment = small_suite.outside(PYTHONPATH=os.pathsep.join(sys.path))
    driver = subprocess.Popen(
        [*command, *options], env=environment, stdout=subprocess.PIPE, text=True
    )
    _wait_for(lambda: len(list((folder / "cells").glob("*.json"))) >= 2)
    (worker,) = cluster.worker_nodes
    cluster.remove_node(worker, allow_graceful=False)
    output = driver.communicate(timeout=300)[0]
    assert driver.returncode == 0, output
    ended = Counter(
        line.split("] ")[1].split(":")[0] for line in output.splitlines() if line[:1] == "["
    )
    assert set(ended.values()) == {1}
    assert sum(ended.values()) == 1 + len(COLUMNS) * 2 * 3
    local = small_suite.command(
        *("study", "run", suite, "--groups", "SL", "--output", tmp_path / "local"),
        *own_classes.WORDS,
    )
    assert local.exit_code == 0, local.output
    assert scores(folder) == scores(tmp_path / "local")


def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    """One sentence."""
    suite = tiny.write(tmp_path)
    result = small_suite.command(
        *("study", "run", suite, "--executor", "ray", "--address", "127.0.0.1:1"),
        *("--output", tmp_path / "study"),
    )
    assert result.exit_code == 2, result.output
    assert "no Ray cluster at 127.0.0.1:1" in result.output


def scores(folder: Path) -> dict[str, Any]:
    """What every cell gave, by name."""
    found = Results.from_dict(json.loads((folder / "results.json").read_text(encoding="utf-8")))
    return {trial.cell: (trial.score, trial.loss) for trial in found.trials}


def _wait_for(condition: Any, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
