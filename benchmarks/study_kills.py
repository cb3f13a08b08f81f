"""Kills a study at random moments and starts it again until it is through; compares the results.

Each time the driver, one of its workers, or both get SIGKILL; a driver whose worker died works on
until its turn comes. In the end every score, loss, chosen rate and learning curve must be that of
a study that ran through undisturbed, and so must every table but that of costs, which holds times.
No cell may have come to its end twice: a result, once written, is never written again.

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
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

VICTIMS = ("driver", "worker", "both")

LOCKS = Path("/proc/locks")


@click.command()
@click.option("--kills", default=20, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of moments and victims.")
@click.option(
    "--longest",
    default=20.0,
    show_default=True,
    help="Seconds before a kill, from a study's start or its first cell.",
)
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
    with tempfile.TemporaryDirectory() as place:
        folder, log = Path(place) / "killed", Path(place) / "log"
        if reference is None:
            reference = Path(place) / "undisturbed"
            if code := study(arguments, reference, log).wait():
                sys.exit(f"the undisturbed study ended with {code}: {log.read_text()[-2000:]}")
        watch = Watch(folder)
        done = kill_often(arguments, folder, log, kills, longest, random.Random(seed), watch)
        code = study(arguments, folder, log).wait()
        watch.look()
        scores_equal = results(folder) == results(reference)
        compared, differing = compare_tables(folder, reference)
    result = {
        "command": " ".join(
            (
                f"python benchmarks/study_kills.py --kills {kills} --longest {longest:g}",
                f"--seed {seed} --output FILE --",
                *arguments,
            )
        ),
        "kills": len(done),
        "by_victim": dict(Counter(each["victim"] for each in done)),
        "in_the_middle_of_cells": sum(each["at_work"] > 0 for each in done),
        "cells_done_at_each_kill": [each["cells"] for each in done],
        "exit_code": code,
        "cells": len(watch.written),
        "cells_ended_twice": len(watch.again),
        "scores_losses_rates_curves_equal": scores_equal,
        "table_files_compared": compared,
        "table_files_that_differ": differing,
    }
    print(json.dumps(result, indent=1))
    if output:
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    through = code == 0 and len(done) == kills
    sys.exit(0 if through and scores_equal and not differing and not watch.again else 1)


def kill_often(
    arguments: tuple[str, ...],
    folder: Path,
    log: Path,
    kills: int,
    longest: float,
    draw: random.Random,
    watch: Watch,
) -> list[dict[str, Any]]:
    """Start, kill, and start again, so many times, or until the study is through.

    Starting takes many seconds in which no cell could be hit: one kill in four comes at a moment
    counted from there, the others count from when the first cell is at work.
    """
    done: list[dict[str, Any]] = []
    driver = study(arguments, folder, log)
    while len(done) < kills:
        started = time.monotonic()
        begun = draw.random() < 0.25
        until = draw.uniform(0.0, longest)
        while driver.poll() is None and not (begun and time.monotonic() - started > until):
            if not begun and watch.at_work():
                begun, started = True, time.monotonic()
            time.sleep(0.1)
            watch.look()
        if driver.poll() == 0:
            break  # too soon: --longest must be smaller for so many kills
        if driver.poll() is not None:  # some cells failed, their workers were killed
            driver = study(arguments, folder, log)
            continue
        at_work = watch.at_work()
        victim = kill(driver, draw.choice(VICTIMS), draw)
        watch.look()
        done.append({"victim": victim, "at_work": at_work, "cells": len(watch.written)})
        print(f"{victim}: {at_work} cells at work, {len(watch.written)} done", flush=True)
        if victim != "worker":
            driver.wait()
            driver = study(arguments, folder, log)
    if driver.poll() is None:
        driver.kill()
        driver.wait()
    return done


def study(arguments: tuple[str, ...], folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a study; failed cells, whose worker was killed, are tried again."""
    command = [sys.executable, "-m", "mtlplug", "study", "run", *arguments]
    with log.open("ab") as file:
        return subprocess.Popen(
            [*command, "--output", str(folder), "--retry"], stdout=file, stderr=file
        )


def kill(driver: subprocess.Popen[bytes], victim: str, draw: random.Random) -> str:
    """SIGKILL to the victims; returns who they were: a driver may have no worker yet."""
    workers = children(driver.pid)
    if not workers:
        victim = "driver"
    if victim != "driver":
        os.kill(draw.choice(workers), signal.SIGKILL)
    if victim != "worker":
        driver.kill()
    return victim


def children(process: int) -> list[int]:
    """The processes another one started."""
    text = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    return [int(number) for number in text.split()]


class Watch:
    """Looks for results that are written a second time.

    Attributes:
        written: when each cell that is done was, by file name.
        again: files that were written again since.
    """

    def __init__(self, folder: Path) -> None:
        self._cells = folder / "cells"
        self.written: dict[str, int] = {}
        self.again: set[str] = set()

    def look(self) -> None:
        """Note what is new."""
        for path in self._cells.glob("*.json"):
            try:
                stamp = path.stat().st_mtime_ns
                if path.name not in self.written:
                    if json.loads(path.read_text(encoding="utf-8"))["state"] == "done":
                        self.written[path.name] = stamp
                elif self.written[path.name] != stamp:
                    self.again.add(path.name)
            except FileNotFoundError:
                continue  # a failed cell, forgotten to be tried again

    def at_work(self) -> int:
        """Cells whose lock some process holds."""
        words = LOCKS.read_text(encoding="ascii").split()
        held = {int(word.rsplit(":", 1)[1]) for word in words if word.count(":") == 2}
        with suppress(FileNotFoundError):  # a cell that ended just now
            return sum(path.stat().st_ino in held for path in self._cells.glob("*.lock"))
        return self.at_work()


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


def compare_tables(folder: Path, reference: Path) -> tuple[int, list[str]]:
    """How many files of tables there are without times in them, and which of them differ."""
    places = [each / "tables" for each in (folder, reference)]
    names = {path.name for place in places for path in place.iterdir() if path.stem != "costs"}
    same = [
        all((place / name).exists() for place in places)
        and len({(place / name).read_bytes() for place in places}) == 1
        for name in sorted(names)
    ]
    return len(names), [name for name, equal in zip(sorted(names), same, strict=True) if not equal]


if __name__ == "__main__":
    main()
