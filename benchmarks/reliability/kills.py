"""Kills runs with SIGKILL at random moments and starts them again until they are through.

Half of the kills come while a checkpoint is being written. On several ranks a random one is killed;
the others must end by themselves, as far as they train (at the start a launcher would end them).
Every run must come to its end with the losses, scores and weights of a run that nobody killed, to
the last bit.

Usage: python benchmarks/reliability/kills.py --kills 100 --output FILE
       python benchmarks/reliability/kills.py --ranks 2 --kills 20 --output FILE
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parent))

import short_run
from outcome import conclude, differences, outcome

Left = set[tuple[str, int]]
"""Names and numbers of folders."""
EPOCHS = 8
LONGEST = 600.0
"""Seconds after which an attempt counts as hanging."""
PATIENCE = 10.0
"""Seconds in which the other ranks must have ended."""


@click.command()
@click.option("--kills", default=100, show_default=True)
@click.option("--ranks", default=1, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of moments and victims.")
@click.option("--output", type=click.Path(path_type=Path), help="Write what happened as JSON.")
def main(kills: int, ranks: int, seed: int, output: Path | None) -> None:
    """Kill, restart, compare."""
    with tempfile.TemporaryDirectory() as place:
        found = campaign(ranks, kills, random.Random(seed), Path(place))
    conclude(found, output, failed=bool(found["lost"]))


def campaign(ranks: int, kills: int, draw: random.Random, place: Path) -> dict[str, Any]:
    """Runs until so many kills have hit.

    Args:
        ranks: of each run.
        kills: how many.
        draw: chooses moments and victims.
        place: for the runs.
    """
    log = place / "log"
    options = short_run.options(place, epochs=EPOCHS, save_minutes=0.005)
    begin = time.monotonic()
    if code := wait(*start([*options, "--output", str(place / "unbroken")], ranks, log)):
        sys.exit(f"the undisturbed run ended with {code}: {log.read_text()[-2000:]}")
    expected, longest = outcome(place / "unbroken"), (time.monotonic() - begin) / 2
    hits: Counter[str] = Counter()
    others: Counter[str] = Counter()
    runs = 0
    lost: list[str] = []
    while hits.total() < kills:
        folder = place / f"run-{runs}"
        runs += 1
        while not (folder / "report.json").exists():
            left = unfinished(folder)
            processes = start([*options, "--output", str(folder)], ranks, log)
            limit = longest if 2 * hits["in a save"] > hits.total() else None
            if hits.total() < kills and comes(processes, folder, left, draw, limit):
                moment, by_themselves = kill_one(processes, folder, left, draw)
                hits[moment] += 1
                others[f"{'ended' if by_themselves else 'were ended'} {moment}"] += ranks > 1
            elif code := wait(*processes):
                lost.append(f"run-{runs - 1} ended with {code}: {log.read_text()[-2000:]}")
                break
        else:
            if changed := differences(outcome(folder), expected):
                lost.append(f"run-{runs - 1} differs in {', '.join(changed)}")
    text = log.read_text(encoding="utf-8", errors="replace")
    return {
        "ranks": ranks,
        "steps": sum(line["event"] == "step" for line in expected["metrics"]),
        "kills": hits.total(),
        "hits": dict(hits),
        "other_ranks": dict(+others),
        "named": text.count("is gone, after step"),
        "runs": runs,
        "resumed": text.count("resuming after"),
        "lost": lost,
    }


def start(options: list[str], ranks: int, log: Path) -> list[int]:
    """An attempt: the processes of its ranks."""
    if ranks == 1:
        return [short_run.forked(options, log)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    own = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
    return [short_run.forked(options, log, **shared, **each) for each in own]


def comes(
    processes: Sequence[int], folder: Path, left: Left, draw: random.Random, longest: float | None
) -> bool:
    """Wait for the moment to kill an attempt; False: it ended before.

    Args:
        processes: of the attempt.
        folder: of the run.
        left: what was unfinished there when the attempt started.
        draw: chooses the moment.
        longest: seconds to it at most; None: a save seen to begin since the attempt started.
    """
    seen: Left = set()
    saves = draw.randint(1, 4)
    moment = time.monotonic() + draw.uniform(0.0, longest or 0.0)
    while not all(ended(each) for each in processes):
        if longest is not None and time.monotonic() > moment:
            return True
        if longest is None:
            seen |= unfinished(folder) - left
            if len(seen) >= saves:
                time.sleep(draw.uniform(0.0, 0.01))
                return True
        time.sleep(0.0005 if longest is None else 0.01)
    return False


def kill_one(
    processes: Sequence[int], folder: Path, left: Left, draw: random.Random
) -> tuple[str, bool]:
    """Kill one rank of an attempt; where it was hit, and whether the others ended by themselves."""
    victim = draw.choice(processes)
    os.kill(victim, signal.SIGKILL)
    moment = "in training" if (folder / "metrics.jsonl").exists() else "at the start"
    os.waitpid(victim, 0)
    if unfinished(folder) - left:
        moment = "in a save"
    others = [each for each in processes if each != victim]
    deadline = time.monotonic() + PATIENCE
    while not all(ended(each) for each in others) and time.monotonic() < deadline:
        time.sleep(0.01)
    alive = [each for each in others if not ended(each)]
    for each in alive:
        os.kill(each, signal.SIGKILL)
    wait(*others)
    return moment, not alive


def unfinished(folder: Path) -> Left:
    """What is being written in a run's folder, or was when it was killed: names and numbers."""
    found = set()
    for path in (folder / "checkpoints").glob("step-*.tmp"):
        with suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_ino))
    return found


def ended(process: int) -> bool:
    """Whether a child has ended; it stays to be waited for."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def wait(*processes: int) -> int:
    """The first exit code of children that is not 0, negative for a signal."""
    deadline = time.monotonic() + LONGEST
    codes = []
    for process in processes:
        while not ended(process) and time.monotonic() < deadline:
            time.sleep(0.01)
        if not ended(process):
            os.kill(process, signal.SIGKILL)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    main()
