"""How far predicted epochs are from measured ones: one rank predicts two, two are measured.

Both on this machine, one thread a rank; the link between ranks is measured first. Usage:

    python benchmarks/simulation.py --output benchmarks/results/simulation.json -- \
        --suite examples/suites/real_small.toml --data ../shared/data --model MODEL_DIR

What stands after `--` goes to `mtlplug bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LINK = """
import time, torch, torch.distributed as dist
dist.init_process_group("gloo")
values = torch.zeros({numbers})
small = torch.zeros(1)
for tensor in (small, values, small, values):
    dist.barrier()
    started = time.perf_counter()
    for _ in range(5):
        dist.all_reduce(tensor)
    seconds = (time.perf_counter() - started) / 5
    if dist.get_rank() == 0:
        print(tensor.numel(), seconds)
"""

NUMBERS = 25_000_000
"""Of the reduced tensor: as many as a small encoder has parameters."""


def ranks(number: int, *arguments: str) -> list[str]:
    """A command on this many ranks."""
    start = ["--standalone", "--nproc-per-node", str(number)]
    return [sys.executable, "-m", "torch.distributed.run", *start, *arguments]


def run(command: list[str]) -> str:
    """Run to the end with one thread a process; returns what it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def measure_link(folder: Path) -> tuple[float, float]:
    """Bandwidth in GB/s and latency in microseconds of a sum over two ranks."""
    script = folder / "link.py"
    script.write_text(LINK.format(numbers=NUMBERS), encoding="utf-8")
    lines = [line.split() for line in run(ranks(2, str(script))).splitlines()]
    seconds = {int(numbers): float(value) for numbers, value in lines}  # the second time counts
    latency = seconds[1] / 2
    return 4 * NUMBERS / (seconds[NUMBERS] - seconds[1]) / 1e9, latency * 1e6


def bench(number: int, folder: Path, options: list[str]) -> dict[str, Any]:
    """The results of `mtlplug bench` on this many ranks."""
    file = folder / f"{number}.json"
    command = ["-m", "mtlplug", "bench", "--no-compare", "--json", str(file), *options]
    run(ranks(number, *command))
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return report


def compare(one: dict[str, Any], two: dict[str, Any]) -> list[dict[str, Any]]:
    """Predicted against measured epochs, by combination."""
    lines = []
    for alone, together in zip(one["combinations"], two["combinations"], strict=True):
        predicted = {each["ranks"]: each["epoch_seconds"] for each in alone["predictions"]}
        for number, measured in ((1, alone), (2, together)):
            seconds = measured["epoch_seconds"]
            lines.append(
                {
                    "groups": alone["groups"],
                    "ranks": number,
                    "predicted": predicted[number],
                    "measured": seconds["value"],
                    "margin": seconds["margin"],
                    "error": predicted[number] / seconds["value"] - 1,
                }
            )
    return lines


def main() -> None:
    """Measure, predict, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("options", nargs="+", help="of mtlplug bench, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bandwidth, latency = measure_link(folder)
        link = ["--bandwidth", str(bandwidth), "--latency", str(latency)]
        options = arguments.options
        one = bench(1, folder, [*options, "--simulate", "--ranks", "1,2", *link])
        two = bench(2, folder, options)
    lines = compare(one, two)
    print(f"link: {bandwidth:.2f} GB/s, {latency:.0f} microseconds")
    for line in lines:
        print(
            f"{line['groups']:>10} on {line['ranks']}: predicted {line['predicted']:7.1f} s, "
            f"measured {line['measured']:7.1f} ± {line['margin']:.1f} s, {line['error']:+.0%}"
        )
    report = {
        "command": ["python", *sys.argv],
        "machine": one["machine"],
        "options": one["options"],
        "link": {"gigabytes_per_second": bandwidth, "microseconds": latency},
        "lines": lines,
    }
    arguments.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
