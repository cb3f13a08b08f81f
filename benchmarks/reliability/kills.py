"""Kills runs with SIGKILL at random moments and starts them again until they are through.

On one rank half of the kills come while a checkpoint is being written; on several a random rank
is killed, and the launcher ends the others. Every run must come to its end with the losses, scores
and weights of a run that nobody killed, to the last bit.

Usage: python benchmarks/reliability/kills.py --kills 100 --output FILE
       python benchmarks/reliability/kills.py --ranks 2 --kills 20 --output FILE
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parent))

import short_run
from outcome import conclude, differences, outcome

RUN = Path(__file__).resolve().parents[2] / "mtlplug" / "run.py"
Left = set[tuple[str, int]]
"""Names and numbers of folders."""
EPOCHS = 8
LONGEST = 600.0
"""Seconds after which an attempt counts as hanging."""


@click.command()
@click.option("--kills", default=100, show_default=True)
@click.option("--ranks", default=1, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of moments and victims.")
@click.option("--output", type=click.Path(path_type=Path), help="Write what happened as JSON.")
def main(kills: int, ranks: int, seed: int, output: Path | None) -> None:
    """Kill, restart, compare."""
    with tempfile.TemporaryDirectory() as place:
        found = campaign(ranks, kills, random.Random(seed), Path(place))
    conclude(found, output, failed=bool(found["lost"] or found["orphans"]))


def campaign(ranks: int, kills: int, draw: random.Random, place: Path) -> dict[str, Any]:
    """Runs until so many kills have hit.

    Args:
        ranks: of each run; several are started by a launcher.
        kills: how many.
        draw: chooses moments and victims.
        place: for the runs.
    """
    log = place / "log"
    start = short_run.forked if ranks == 1 else launched(ranks)
    options = short_run.options(place, epochs=EPOCHS, save_minutes=0.005)
    expected_at = place / "unbroken"
    begin = time.monotonic()
    if code := wait(start([*options, "--output", str(expected_at)], log)):
        sys.exit(f"the undisturbed run ended with {code}: {log.read_text()[-2000:]}")
    expected, longest = outcome(expected_at), (time.monotonic() - begin) / 2
    hits: Counter[str] = Counter()
    runs = resumed = orphans = 0
    slowest = 0.0
    lost: list[str] = []
    while hits.total() < kills:
        folder = place / f"run-{runs}"
        runs += 1
        while not (folder / "report.json").exists():
            before = log.stat().st_size
            process = start([*options, "--output", str(folder)], log)
            limit = longest if 2 * hits["in a save"] > hits.total() else None
            left = unfinished(folder)
            if hits.total() < kills and comes(process, folder, left, ranks, draw, limit):
                moment, seconds = kill_one(process, folder, left, draw)
                hits[moment] += 1
                slowest = max(slowest, seconds)
                orphans += survivors(folder)
            elif code := wait(process):
                lost.append(f"run-{runs - 1} ended with {code}: {log.read_text()[-2000:]}")
                break
            with log.open(encoding="utf-8", errors="replace") as file:
                file.seek(before)
                resumed += "resuming after" in file.read()
        else:
            if changed := differences(outcome(folder), expected):
                lost.append(f"run-{runs - 1} differs in {', '.join(changed)}")
    return {
        "kills": hits.total(),
        "hits": dict(hits),
        "runs": runs,
        "resumed": resumed,
        "lost": lost,
        "orphans": orphans,
        "slowest_end_seconds": round(slowest, 1),
        "ranks": ranks,
        "steps": sum(line["event"] == "step" for line in expected["metrics"]),
    }


def comes(
    process: int,
    folder: Path,
    left: Left,
    ranks: int,
    draw: random.Random,
    longest: float | None,
) -> bool:
    """Wait for the moment to kill an attempt; False: it ended before.

    Args:
        process: of the attempt.
        folder: of the run.
        left: what was unfinished there when the attempt started.
        ranks: of the run; the time begins when all are there.
        draw: chooses the moment.
        longest: seconds to it at most; None: a save seen to begin since the attempt started.
    """
    seen: Left = set()
    saves, wait_for = draw.randint(1, 4), draw.uniform(0.0, longest or 0.0)
    begin = None if ranks > 1 else time.monotonic()
    while not ended(process):
        if begin is None:
            begin = time.monotonic() if len(ranks_of(folder)) == ranks else None
        elif longest is not None and time.monotonic() > begin + wait_for:
            return True
        elif longest is None:
            seen |= unfinished(folder) - left
            if len(seen) >= saves:
                time.sleep(draw.uniform(0.0, 0.01))
                return True
        time.sleep(0.0005 if longest is None else 0.01)
    return False


def kill_one(process: int, folder: Path, left: Left, draw: random.Random) -> tuple[str, float]:
    """Kill an attempt, or one of its ranks; where it was hit, and seconds until it had ended."""
    victims = ranks_of(folder) or [process]
    os.kill(draw.choice(victims), signal.SIGKILL)
    killed_at = time.monotonic()
    wait(process)
    seconds = time.monotonic() - killed_at
    if unfinished(folder) - left:
        return "in a save", seconds
    return "in training" if (folder / "metrics.jsonl").exists() else "at the start", seconds


def unfinished(folder: Path) -> Left:
    """What is being written in a run's folder, or was when it was killed: names and numbers."""
    found = set()
    for path in (folder / "checkpoints").glob("step-*.tmp"):
        with suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_ino))
    return found


def launched(ranks: int) -> Callable[[list[str], Path], int]:
    """Runs under the deepspeed launcher."""

    def start(options: list[str], log: Path) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        deepspeed = Path(sys.executable).parent / "deepspeed"
        command = [str(deepspeed), "--num_gpus", str(ranks), "--master_port", port, str(RUN)]
        with log.open("ab") as file:
            return subprocess.Popen([*command, *options], stdout=file, stderr=file).pid

    return start


def ranks_of(folder: Path) -> list[int]:
    """The processes of a run under a launcher."""
    return [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit()
        and (arguments := _arguments(path))[:1]
        and str(folder) in arguments
        and any(each.startswith("--local_rank") for each in arguments)
    ]


def survivors(folder: Path) -> int:
    """Processes of a run that its launcher left behind; they are ended."""
    left = ranks_of(folder)
    for process in left:
        os.kill(process, signal.SIGKILL)
    return len(left)


def ended(process: int) -> bool:
    """Whether a child has ended; it stays to be waited for."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def wait(process: int) -> int:
    """The exit code of a child, negative for a signal."""
    deadline = time.monotonic() + LONGEST
    while not ended(process):
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return 124
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _arguments(process: Path) -> list[str]:
    try:
        return (process / "cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


if __name__ == "__main__":
    main()
