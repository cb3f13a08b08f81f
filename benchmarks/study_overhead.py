"""Where the time of a study goes: in its cells' own training, and in everything else.

The driver and its workers are sampled (`sampling.py`) from their first to their last moment. The
whole is the wall time of the command times the number of workers; what no worker was there for,
and what a worker waited, is part of it. On a busy machine wall times mean little; the share of the
processor time is then the better measure, which counts no waiting.

Usage: python benchmarks/study_overhead.py --output FILE -- [arguments of mtlplug study run]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

TRAINING = "training: steps"
OWN = (TRAINING, "training: evaluation", "training: checkpoints, saving the encoder")
"""Phases of a worker that are a cell's own training."""

OPENING = ("cell: suite", "cell: features", "cell: encoder", "cell: engine", "cell: other")
"""Phases of a worker in which a cell gets ready for its first step."""

DATA = ("generating the demo", "reading data")
"""Phases of the driver that make ready for all cells at once what each would need else.

All workers wait for it.
"""

PHASES = {
    ("<frozen importlib._bootstrap>", "_find_and_load"): "imports",
    ("loop.py", "_train_epoch"): OWN[0],
    ("loop.py", "_evaluate"): OWN[1],
    ("loop.py", "_save"): OWN[2],
    ("pretrain.py", "finish"): OWN[2],
    ("workspace.py", "open_workspace"): OPENING[0],
    ("pretrain.py", "build_data"): OPENING[1],
    ("encoder.py", "from_pretrained"): OPENING[2],
    ("pretrain.py", "new_model"): OPENING[2],
    ("flops.py", "encoder_flops"): OPENING[2],
    ("engine.py", "__init__"): OPENING[3],
    ("deepspeed_config.py", "resolve_deepspeed"): OPENING[3],
    ("cell.py", "run_cell"): OPENING[4],
    ("ledger.py", "claimed"): "ledger",
    ("ledger.py", "record"): "ledger",
    ("ledger.py", "state"): "ledger",
    ("ledger.py", "result"): "ledger",
    ("cell.py", "curve"): "ledger",
    ("worker.py", "serve"): "waiting for a cell, and clearing up",
    ("pool.py", "serve"): "waiting for a cell, and clearing up",
    ("generate.py", "generate"): "generating the demo",
    ("opening.py", "open_study"): "planning",
    ("opening.py", "features_of"): "reading data",
    ("driver.py", "drive"): "driving",
    ("pool.py", "wait"): "waiting for workers",
    ("writing.py", "write_report"): "report",
    ("collect.py", "collect"): "report",
}


def main() -> None:
    """Run a study, sampled; show and write where its time went."""
    words = sys.argv[1:]
    output = Path(words[words.index("--output") + 1]) if "--output" in words else None
    arguments = words[words.index("--") + 1 :] if "--" in words else ["demo"]
    with tempfile.TemporaryDirectory() as place:
        samples = Path(place) / "samples"
        samples.mkdir()
        here = Path(__file__).resolve().parent
        hook = f"import sampling, study_overhead as s; sampling.start({str(samples)!r}, s.PHASES)"
        (Path(place) / "sitecustomize.py").write_text(hook, encoding="utf-8")
        path = os.pathsep.join([place, str(here), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "mtlplug", "study", "run", *arguments]
        folder = ["--output", str(Path(place) / "study")]
        started = time.time()
        driver = subprocess.Popen([*command, *folder], env={**os.environ, "PYTHONPATH": path})
        code = driver.wait()
        wall = time.time() - started
        files = [json.loads(file.read_text("utf-8")) for file in samples.glob("*.json")]
    if code:
        sys.exit(f"the study ended with {code}")
    result = account(files, driver.pid, wall)
    result["command"] = f"python benchmarks/study_overhead.py -- {' '.join(arguments)}"
    show(result)
    if output:
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def account(files: list[dict[str, Any]], driver: int, wall: float) -> dict[str, Any]:
    """Seconds by phase: of the workers, which make up the whole, and of the driver beside them."""
    workers = [file for file in files if file["process"] != driver and worked(file)]
    others = [file for file in files if file not in workers]
    whole = wall * len(workers)
    phases = added(workers)
    there = sum(seconds[0] for seconds in phases.values())
    phases["no worker yet, or no more"] = [whole - there, 0.0]
    beside = added(others)
    processor = sum(each[1] for each in [*phases.values(), *beside.values()])
    own = [sum(phases[phase][kind] for phase in OWN if phase in phases) for kind in (0, 1)]
    opening = [sum(phases[phase][kind] for phase in OPENING if phase in phases) for kind in (0, 1)]
    data = [sum(beside[phase][kind] for phase in DATA if phase in beside) for kind in (0, 1)]
    data[0] *= len(workers)
    return {
        "wall_seconds": wall,
        "workers": len(workers),
        "wall_times_workers": whole,
        "processor_seconds": processor,
        "overhead_percent": {
            "wall": 100 * (1 - (own[0] + opening[0] + data[0]) / whole),
            "processor": 100 * (1 - (own[1] + opening[1] + data[1]) / processor),
        },
        "opening_of_cells_percent": {
            "wall": 100 * opening[0] / whole,
            "processor": 100 * opening[1] / processor,
        },
        "data_of_all_cells_percent": {
            "wall": 100 * data[0] / whole,
            "processor": 100 * data[1] / processor,
        },
        "workers_wall_and_processor_seconds": phases,
        "driver_wall_and_processor_seconds": beside,
    }


def worked(file: dict[str, Any]) -> bool:
    """Whether a process was a worker."""
    return TRAINING in file["seconds"]


def added(files: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Wall and processor seconds by phase of several processes."""
    total: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for file in files:
        for phase, seconds in file["seconds"].items():
            total[phase] = [a + b for a, b in zip(total[phase], seconds, strict=True)]
    return dict(sorted(total.items(), key=lambda item: -item[1][0]))


def show(result: dict[str, Any]) -> None:
    """The account as a table."""
    whole, processor = result["wall_times_workers"], result["processor_seconds"]
    print(f"{'phase':45} {'wall s':>8} {'%':>6} {'cpu s':>8} {'%':>6}")
    for who in ("workers", "driver"):
        print(who)
        for phase, (wall, cpu) in result[f"{who}_wall_and_processor_seconds"].items():
            share = f"{100 * wall / whole:6.2f}" if who == "workers" else " " * 6
            print(f"  {phase:43} {wall:8.2f} {share} {cpu:8.2f} {100 * cpu / processor:6.2f}")
    for name in ("overhead_percent", "opening_of_cells_percent", "data_of_all_cells_percent"):
        each = result[name]
        print(f"{name}: wall {each['wall']:.2f}, processor {each['processor']:.2f}")


if __name__ == "__main__":
    main()
