"""Where a study's time goes: what counts as a cell's own, and that nothing is left out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import study_overhead  # noqa: E402


def sampled(process: int, **seconds: tuple[float, float]) -> dict[str, Any]:
    """What a process wrote; phases by a short name."""
    names = {"steps": study_overhead.TRAINING, "engine": "cell: engine"}
    return {
        "process": process,
        "seconds": {names.get(k, k): list(each) for k, each in seconds.items()},
    }


def test_all_wall_time_of_the_workers_is_accounted_for() -> None:
    """A wait and the time before a worker was there are overhead, an opening is shown apart."""
    files = [
        sampled(1, imports=(9.0, 9.0)),
        sampled(2, steps=(70.0, 60.0), engine=(10.0, 10.0)),
        sampled(3, steps=(60.0, 60.0), waiting=(20.0, 1.0)),
    ]
    found = study_overhead.account(files, driver=1, wall=100.0)
    assert found["workers"] == 2
    phases = found["workers_wall_and_processor_seconds"]
    assert sum(seconds[0] for seconds in phases.values()) == pytest.approx(200.0)
    assert phases["no worker yet, or no more"][0] == pytest.approx(40.0)
    assert found["overhead_percent"]["wall"] == pytest.approx(30.0)
    assert found["overhead_percent"]["processor"] == pytest.approx(100 * 10 / 140)
    assert found["opening_of_cells_percent"]["wall"] == pytest.approx(5.0)


def test_a_process_and_its_fork_are_sampled(tmp_path: Path) -> None:
    """Each in a file of its own, with its time in the function that was named."""
    program = f"""
import os, sys, time
sys.path.insert(0, {str(BENCHMARKS)!r})
import sampling
sampling.start({str(tmp_path)!r}, {{("<string>", "work"): "work"}})
def work():
    until = time.monotonic() + 1.2
    while time.monotonic() < until:
        pass
if child := os.fork():
    os.waitpid(child, 0)
else:
    work()
    os._exit(0)
work()
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    files = [json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("*.json")]
    assert len(files) == 2
    for each in files:
        assert each["seconds"]["work"][0] > 0.3
