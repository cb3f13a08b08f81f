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
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parent))

from outcome import conclude, differences, outcome

RUN = Path(__file__).resolve().parents[2] / "mtlplug" / "run.py"
LONGEST = 600.0
"""Seconds after which an attempt counts as hanging."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--kills", default=100, show_default=True)
@click.option("--ranks", default=1, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of moments and victims.")
@click.option("--longest", default=4.0, show_default=True, help="Seconds to the next kill.")
@click.option("--output", type=click.Path(path_type=Path), help="Write what happened as JSON.")
@click.argument("options", nargs=-1)
def main(
    kills: int, ranks: int, seed: int, longest: float, output: Path | None, options: tuple[str, ...]
) -> None:
    """Kill, restart, compare; OPTIONS are those of mtlplug run."""
    given = options or ("--groups", "SL+QA+C", "--max-epochs", "2")
    start = forked if ranks == 1 else launched(ranks)
    with tempfile.TemporaryDirectory() as place:
        found = campaign(start, list(given), kills, random.Random(seed), longest, Path(place))
    found |= {"ranks": ranks, "options": list(given)}
    conclude(found, output, failed=bool(found["lost"] or found["orphans"]))


def campaign(
    start: Callable[[list[str], Path], int],
    options: list[str],
    kills: int,
    draw: random.Random,
    longest: float,
    place: Path,
) -> dict[str, Any]:
    """Runs until so many kills have hit.

    Args:
        start: starts an attempt that logs to a file; returns its process.
        options: of the runs.
        kills: how many.
        draw: chooses moments and victims.
        longest: seconds from the start of an attempt to its kill, at most.
        place: for the runs.
    """
    log = place / "log"
    options = [*options, "--save-minutes", "0.01", "--cache", str(place / "cache")]
    expected_at = place / "unbroken"
    code = wait(start([*options, "--output", str(expected_at)], log))
    if code:
        sys.exit(f"the undisturbed run ended with {code}: {log.read_text()[-2000:]}")
    expected = outcome(expected_at)
    hits: Counter[str] = Counter()
    runs = resumed = orphans = 0
    lost: list[str] = []
    while hits.total() < kills:
        folder = place / f"run-{runs}"
        runs += 1
        while not (folder / "report.json").exists():
            before = log.stat().st_size
            process = start([*options, "--output", str(folder)], log)
            in_save = hits.total() % 2 == 0
            if hits.total() < kills and (moment := hit(process, folder, draw, longest, in_save)):
                hits[moment] += 1
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
        "steps": sum(line["event"] == "step" for line in expected["metrics"]),
    }


def hit(
    process: int, folder: Path, draw: random.Random, longest: float, in_save: bool
) -> str | None:
    """Kill an attempt, in a save or at any moment; where it was hit, or None: it ended before.

    A save counts when it was seen to begin since the attempt started.
    """
    deadline = time.monotonic() + draw.uniform(0.0, longest)
    seen: set[Path] = set()
    saves = draw.randint(1, 4)
    while len(seen) < saves if in_save else time.monotonic() < deadline:
        if ended(process):
            return None
        seen |= set((folder / "checkpoints").glob("step-*.tmp"))
        time.sleep(0.0005 if in_save else 0.01)
    time.sleep(draw.uniform(0.0, 0.01))
    saving = any((folder / "checkpoints").glob("step-*.tmp"))
    victims = ranks_of(folder) or [process]
    os.kill(draw.choice(victims), signal.SIGKILL)
    wait(process)
    if saving:
        return "in a save"
    return "in training" if (folder / "metrics.jsonl").exists() else "at the start"


def forked(options: list[str], log: Path) -> int:
    """A run in a process of its own, from one that has imported everything."""
    import mtlplug.training.pretrain  # noqa: F401
    from mtlplug.cli import run

    sys.stdout.flush()
    if process := os.fork():
        return process
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        run(options, standalone_mode=True)
    except SystemExit as end:
        os._exit(int(end.code or 0))
    finally:
        os._exit(70)


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
