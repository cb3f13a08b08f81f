"""What the demo is for: a model trained on it learns."""

from __future__ import annotations

import json
from pathlib import Path

from tests.small_suite import command


def test_a_model_learns_the_demo(tmp_path: Path) -> None:
    """After four epochs both formats score far above chance and above the first epoch."""
    options = f"--max-epochs 4 --batch-size 64 --max-rows-per-task 600 --output {tmp_path / 'run'}"
    result = command("run", "--groups", "places+topics", *options.split())
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert {task["format"] for task in report["tasks"].values()} == {"SL", "C"}
    for name, task in report["tasks"].items():
        assert task["score"] > task["untrained"] + 30, name
        assert task["score"] > task["first"] + 10, name
