"""Kills a study at random moments and starts it again until it is through; compares the results.

Each time the driver, one of its workers, or both get SIGKILL. In the end every score, loss and
chosen rate must be that of a study that ran through undisturbed, and no cell may have come to its
end twice: a result, once written, is never written again.

Usage: python benchmarks/study_kills.py --kills 20 --output FILE -- [arguments of mtlplug study run]
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

VICTIMS = ("driver", "worker", "both")


@click.command()
@click.option("--kills", default=20, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of moments and victims.")
@click.option("--longest", default=40.0, show_default=True, help="Seconds between two kills.")
@click.option("--reference", type=click.Path(path_type=Path), help="A finished, undisturbed study.")
@click.option("--output", type=click.Path(path_type=Path), help="Write what happened as JSON.")
@click.argument("arguments", nargs=-1)
def main(
    kills: int,
    seed: int,
    longest: float,
    reference: Path | None,
    output: Path | None,
    arguments: tuple[str, ...],
) -> None:
    """Kill, restart, compare."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        folder, log = Path(place) / "killed", Path(place) / "log"
        if reference is None:
            reference = Path(place) / "undisturbed"
            if code := study(arguments, reference, log).wait():
                sys.exit(f"the undisturbed study ended with {code}: {log.read_text()[-2000:]}")
        done: list[dict[str, Any]] = []
        stamps: dict[str, int] = {}
        for _ in range(kills):
            driver = study(arguments, folder, log)
            time.sleep(draw.uniform(1.0, longest))
            ended = driver.poll() is not None
            victim = draw.choice(VICTIMS)
            killed = [] if ended else kill(driver, victim, draw)
            driver.wait()
            time.sleep(1.0)
            again = rewritten(folder, stamps)
            done.append({"victim": victim, "killed": len(killed), "rewritten": again})
            print(f"{victim}: {len(killed)} killed, {len(stamps)} cells done", flush=True)
        code = study(arguments, folder, log).wait()
        again = rewritten(folder, stamps)
        equal = results(folder) == results(reference)
    result = {
        "command": "python benchmarks/study_kills.py --kills N --output FILE -- ARGUMENTS",
        "arguments": list(arguments),
        "kills": sum(bool(each["killed"]) for each in done),
        "by_victim": {v: sum(d["victim"] == v and d["killed"] > 0 for d in done) for v in VICTIMS},
        "exit_code": code,
        "cells": len(stamps),
        "cells_ended_twice": sum(len(each["rewritten"]) for each in done) + len(again),
        "results_equal": equal,
    }
    print(json.dumps(result, indent=1))
    if output:
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if equal and not result["cells_ended_twice"] and code == 0 else 1)


def study(arguments: tuple[str, ...], folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a study; failed cells, whose worker was killed, are tried again."""
    command = [sys.executable, "-m", "mtlplug", "study", "run", *arguments]
    with log.open("ab") as file:
        return subprocess.Popen(
            [*command, "--output", str(folder), "--retry"], stdout=file, stderr=file
        )


def kill(driver: subprocess.Popen[bytes], victim: str, draw: random.Random) -> list[int]:
    """SIGKILL to the victims; a driver whose worker died is left to note that, then killed too."""
    workers = children(driver.pid)
    victims = [] if victim == "driver" or not workers else [draw.choice(workers)]
    if victim != "worker" or not victims:
        victims.append(driver.pid)
    for process in victims:
        os.kill(process, signal.SIGKILL)
    if driver.pid not in victims:
        time.sleep(draw.uniform(0.0, 5.0))
        driver.kill()
    return victims


def children(process: int) -> list[int]:
    """The processes another one started."""
    text = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    return [int(number) for number in text.split()]


def rewritten(folder: Path, stamps: dict[str, int]) -> list[str]:
    """Cells that were done before and were written again since; notes those done now."""
    again = []
    for path in (folder / "cells").glob("*.json"):
        if json.loads(path.read_text(encoding="utf-8"))["state"] != "done":
            continue
        stamp = path.stat().st_mtime_ns
        if stamps.setdefault(path.name, stamp) != stamp:
            again.append(path.name)
    return again


def results(folder: Path) -> dict[str, Any]:
    """All scores and losses by cell, and those of the encoders."""
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    kept = ("cell", "score", "scores", "loss", "rate", "seed", "epochs", "state", "curve")
    return {
        kind: sorted(
            ({key: each[key] for key in kept if key in each} for each in found[kind]),
            key=lambda each: each["cell"],
        )
        for kind in ("columns", "trials")
    }


if __name__ == "__main__":
    main()
