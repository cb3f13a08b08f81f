"""Damages every file of the newest checkpoint of a run in many ways and lets the run go on.

Each time the damage must be noticed and said, the checkpoint before be taken, and the run end with
the losses, scores and weights of one that nothing happened to, to the last bit.

Usage: python benchmarks/reliability/damage.py --cases 200 --output FILE
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parent))

import short_run
from kills import ended, wait
from outcome import conclude, differences, outcome

HALTED_AFTER = 12
"""Steps done, of 18, when the run to be damaged is killed."""


def flip(path: Path, draw: random.Random) -> None:
    """Change one bit anywhere."""
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def cut(path: Path, draw: random.Random) -> None:
    """Cut it off anywhere."""
    os.truncate(path, draw.randrange(path.stat().st_size))


def zero(path: Path, draw: random.Random) -> None:
    """Zeros from anywhere on, as a file system may leave what was not on the disk yet."""
    data = path.read_bytes()
    start = draw.randrange(len(data))
    path.write_bytes(data[:start] + b"\0" * (len(data) - start))


def delete(path: Path, draw: random.Random) -> None:
    """Remove it."""
    path.unlink()


KINDS: tuple[Callable[[Path, random.Random], None], ...] = (flip, cut, zero, delete)


@click.command()
@click.option("--cases", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Write what happened as JSON.")
def main(cases: int, seed: int, output: Path | None) -> None:
    """Damage, go on, compare."""
    with tempfile.TemporaryDirectory() as place:
        found = campaign(Path(place), cases, random.Random(seed))
    conclude(found, output, failed=bool(found["lost"]))


def campaign(place: Path, cases: int, draw: random.Random) -> dict[str, Any]:
    """What became of so many damaged checkpoints."""
    options, log = short_run.options(place, epochs=2, save_minutes=0), place / "log"
    if code := wait(short_run.forked([*options, "--output", str(place / "unbroken")], log)):
        sys.exit(f"the undisturbed run ended with {code}: {log.read_text()[-2000:]}")
    expected = outcome(place / "unbroken")
    halted = halt(options, place / "halted", log)
    newest = max(halted.glob("checkpoints/step-*"), key=step_of)
    counts: Counter[str] = Counter()
    lost: list[str] = []
    for number in range(cases):
        file = sorted(newest.iterdir())[number % 4]
        kind = KINDS[number // 4 % len(KINDS)]
        folder = place / "run"
        shutil.copytree(halted, folder)
        path = folder / "checkpoints" / newest.name / file.name
        before = path.read_bytes()
        kind(path, draw)
        if path.exists() and path.read_bytes() == before:
            kind(path, draw)  # zeros where there were zeros
        log.write_text("")
        code = wait(short_run.forked([*options, "--output", str(folder)], log))
        said = f"not used: checkpoint {newest.name} is damaged" in log.read_text()
        changed = differences(outcome(folder), expected) if code == 0 else ["everything"]
        if code or changed or not said:
            lost.append(f"{kind.__name__} {file.name}: {code}, {changed}, said: {said}")
        counts[f"{kind.__name__} {file.name}"] += 1
        shutil.rmtree(folder)
    return {"cases": cases, "by_kind": dict(counts), "lost": lost}


def halt(options: list[str], folder: Path, log: Path) -> Path:
    """A run that was killed in its second epoch, with two checkpoints and none in the making."""
    process = short_run.forked([*options, "--output", str(folder)], log)
    while not any(step_of(path)[0] >= HALTED_AFTER for path in whole(folder)):
        if ended(process):
            sys.exit("the run ended before it could be killed")
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)
    wait(process)
    for unfinished in folder.glob("checkpoints/*.tmp"):
        shutil.rmtree(unfinished)
    return folder


def whole(folder: Path) -> list[Path]:
    """The checkpoints of a run that are complete."""
    return [path for path in folder.glob("checkpoints/step-*") if not path.suffix]


def step_of(path: Path) -> tuple[int, bool]:
    """By which checkpoints are put in order."""
    return int(path.name.split("-")[1]), path.name.endswith("-scored")


if __name__ == "__main__":
    main()
