"""Fills the disk of a run: tmpfs file systems of many sizes, from far too small to large enough.

Each run must end in one sentence with exit code 2, or come through; with more room the same command
must come through, with the losses, scores and weights of a run that never was short of it. Needs
the right to mount.

Usage: python benchmarks/reliability/full_disk.py --sizes 24 --output FILE
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parent))

import short_run
from kills import wait
from outcome import conclude, differences, outcome


@click.command()
@click.option("--sizes", default=24, show_default=True, help="File systems tried.")
@click.option("--output", type=click.Path(path_type=Path), help="Write what happened as JSON.")
def main(sizes: int, output: Path | None) -> None:
    """Run short of room, make room, run again, compare."""
    with tempfile.TemporaryDirectory() as place:
        found = campaign(Path(place), sizes)
    conclude(found, output, failed=bool(found["lost"]))


def campaign(place: Path, sizes: int) -> dict[str, Any]:
    """What happened on file systems of so many sizes."""
    options = short_run.options(place, epochs=2, save_minutes=0)
    log = place / "log"
    code = wait(short_run.forked([*options, "--output", str(place / "unbroken")], log))
    if code:
        sys.exit(f"the undisturbed run ended with {code}: {log.read_text()[-2000:]}")
    expected = outcome(place / "unbroken")
    # What a run needs at its height: two checkpoints, the best one, and one being written.
    most = 5 * weights_of(place / "unbroken") * 3
    sentences: Counter[str] = Counter()
    lost: list[str] = []
    came_through = 0
    for number in range(1, sizes + 1):
        size = max(64 << 10, most * number // sizes)
        disk = place / f"disk-{number}"
        disk.mkdir()
        mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk))
        try:
            log.write_text("")
            code = wait(short_run.forked([*options, "--output", str(disk / "run")], log))
            errors = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
            if code == 0:
                came_through += 1
            elif code == 2 and len(errors) == 1 and "Traceback" not in log.read_text():
                sentences[kind_of(errors[0])] += 1
            else:
                lost.append(f"{size} bytes: ended with {code}: {log.read_text()[-1500:]}")
            mount("-o", f"remount,size={4 * most}", str(disk))
            if code := wait(short_run.forked([*options, "--output", str(disk / "run")], log)):
                lost.append(f"{size} bytes, with more room: {code}: {log.read_text()[-1500:]}")
            elif changed := differences(outcome(disk / "run"), expected):
                lost.append(f"{size} bytes: differs in {', '.join(changed)}")
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    return {
        "sizes": sizes,
        "largest_bytes": most,
        "came_through": came_through,
        "sentences": dict(sentences),
        "lost": lost,
    }


def weights_of(folder: Path) -> int:
    """Bytes of encoder and heads."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def kind_of(sentence: str) -> str:
    """A sentence without figures and places."""
    for known in ("a checkpoint takes", "a checkpoint could not be written", "the disk of"):
        if known in sentence:
            return known
    return sentence


def mount(*arguments: str) -> None:
    """Mount, or say that it is not allowed."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"cannot mount a tmpfs: {done.stderr.strip()}")


if __name__ == "__main__":
    main()
