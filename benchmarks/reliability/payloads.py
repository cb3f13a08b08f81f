"""Plants code in every kind of file that mtlplug reads, runs the real commands, looks if any ran.

Each case is a fresh copy of one folder (a suite with data and an encoder, features, an interrupted
run, a study) with one file replaced or changed. The code would make a file, the marker. Before,
each payload is opened the careless way, where it must make it, and a case whose files nobody opened
or named does not count: else the experiment shows nothing.

Usage: python benchmarks/reliability/payloads.py [--only run,model] [--output FILE]
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import click

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bombs import PAYLOADS
from planting import RUN, STUDY, STUDY_OPTIONS, SUITE, Case, all_cases, command_of
from watching import Watch

OUTPUT = Path(__file__).resolve().parents[1] / "results" / "reliability" / "payloads.json"
LONGEST = 300.0
"""Seconds after which a command counts as hanging."""

Runner = Callable[[Sequence[str]], tuple[int, str]]
"""Runs `mtlplug` with these arguments; its exit code and all it printed."""


@dataclass(frozen=True)
class Outcome:
    """What a command made of a file with code in it.

    Attributes:
        reached: whether what was planted was opened, or refused by its name.
        executed: whether the code ran.
        said: the last line that was printed.
        traceback: whether there was one.
    """

    kind: str
    file: str
    payload: str
    exit_code: int
    reached: bool
    executed: bool
    traceback: bool
    said: str
    seconds: float


def in_a_process(arguments: Sequence[str]) -> tuple[int, str]:
    """The real command."""
    words = [sys.executable, "-m", "mtlplug", *arguments]
    try:
        ended = subprocess.run(
            words, capture_output=True, text=True, timeout=LONGEST, check=False, env=offline()
        )
    except subprocess.TimeoutExpired:
        return 124, f"no end after {LONGEST:.0f} s"
    return ended.returncode, ended.stdout + ended.stderr


def in_a_fork(arguments: Sequence[str]) -> tuple[int, str]:
    """The real command in a process of its own, which has the libraries imported already."""
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        child = os.fork()
        if child == 0:
            _become(arguments, log.fileno())
        deadline, ended = time.monotonic() + LONGEST, 0
        while not ended and time.monotonic() < deadline:
            time.sleep(0.05)
            ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 124, f"no end after {LONGEST:.0f} s"
        log.seek(0)
        return os.waitstatus_to_exitcode(status), log.read()


def _become(arguments: Sequence[str], log: int) -> NoReturn:
    """Let this process be the command, and end with it."""
    from mtlplug.cli import main as command

    code = 1
    try:
        os.setsid()
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv = ["mtlplug", *arguments]
        command()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def offline() -> dict[str, str]:
    """The environment without a network, and without torch's way around `weights_only`."""
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    return {**os.environ, "HF_HUB_OFFLINE": "1", **threads}


class Ground:
    """A sound folder, and the place where copies of it are spoilt one after the other.

    The place is where the folder was made, so that all paths in its files fit.
    """

    def __init__(self, folder: Path) -> None:
        self.place, self.sound = folder / "place", folder / "sound"
        self.marker = folder / "marker"

    def prepare(self, *, study: bool) -> None:
        """Make everything; the run is killed at its first checkpoint."""
        from tests.study import tiny

        tiny.write(self.place / SUITE)
        interrupt(self.place, self.place / RUN)
        if study:
            command = f"study run {{}}/{SUITE}/tiny.toml {STUDY_OPTIONS}"
            code, said = in_a_process(words(command, self.place))
            if code:
                raise RuntimeError(f"the study ended with {code}: {said[-2000:]}")
            shutil.rmtree(self.place / STUDY / "encoders")
        self.place.rename(self.sound)

    def fresh(self) -> Path:
        """A new copy in the place."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.marker.unlink(missing_ok=True)
        return Path(shutil.copytree(self.sound, self.place))


def words(command: str, place: Path) -> list[str]:
    """The arguments of a command on a copy."""
    return [word.replace("{}", str(place)) for word in command.split()]


def interrupt(place: Path, run: Path, within: float = LONGEST) -> None:
    """Start a run and kill it as soon as it has a complete checkpoint."""
    arguments = [sys.executable, "-m", "mtlplug", *words(command_of(RUN), place)]
    with (place / "log").open("w+") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log, env=offline(),
                                   start_new_session=True)  # fmt: skip
        deadline = time.monotonic() + within
        while process.poll() is None and not complete_checkpoints(run):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.seek(0)
        if not complete_checkpoints(run) or (run / "report.json").exists():
            raise RuntimeError(f"no interrupted run: {log.read()[-2000:]}")


def complete_checkpoints(run: Path) -> list[Path]:
    """The folders of complete checkpoints of a run."""
    found = run.glob("checkpoints/*")
    return [path for path in found if path.is_dir() and path.suffix != ".tmp"]


def controls(folder: Path) -> dict[str, bool]:
    """For each payload whether it runs when its file is opened the careless way."""
    ran = {}
    for name, payload in PAYLOADS.items():
        marker, path = folder / "control-marker", folder / "control.py"
        path.write_bytes(payload.make(marker))
        payload.detonate(path)
        ran[name] = marker.exists()
        marker.unlink(missing_ok=True)
    return ran


def try_case(ground: Ground, case: Case, run: Runner) -> Outcome:
    """Plant, run, look."""
    place = ground.fresh()
    case.plant(place, ground.marker)
    started = time.monotonic()
    with Watch(planted(ground.sound, place)) as watch:
        code, text = run(words(case.command, place))
        opened = bool(watch.opened())
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return Outcome(
        kind=case.kind,
        file=case.file,
        payload=case.payload,
        exit_code=code,
        reached=opened or Path(case.file).name in text,
        executed=ground.marker.exists(),
        traceback="Traceback (most recent call last)" in text,
        said=(lines[-1] if lines else "").replace(str(place), "PLACE")[:300],
        seconds=round(time.monotonic() - started, 2),
    )


def planted(sound: Path, place: Path) -> list[Path]:
    """The files of a copy that the sound folder lacks, or has with other bytes."""
    found = []
    for path in place.rglob("*"):
        before = sound / path.relative_to(place)
        if path.is_file() and not (before.exists() and filecmp.cmp(path, before, shallow=False)):
            found.append(path)
    return found


def summary(outcomes: Iterable[Outcome]) -> dict[str, dict[str, int]]:
    """By kind of file how many cases there were and how they ended."""
    rows: dict[str, Counter[str]] = {}
    for each in outcomes:
        row = rows.setdefault(each.kind, Counter())
        row["cases"] += 1
        row["reached"] += each.reached
        row["executed"] += each.executed
        row["went on"] += each.exit_code == 0
        row["refused"] += each.exit_code == 2
        row["tracebacks"] += each.traceback
    return {kind: dict(row) for kind, row in rows.items()}


def show(rows: dict[str, dict[str, int]]) -> None:
    """The summary as a table."""
    columns = ("cases", "reached", "executed", "went on", "refused", "tracebacks")
    print(f"{'planted in':12}" + "".join(f"{name:>12}" for name in columns))
    for kind, row in rows.items():
        print(f"{kind:12}" + "".join(f"{row[name]:12}" for name in columns))


@click.command()
@click.option("--only", help="Kinds of files by commas: run,model,dataset,cache,suite,ledger.")
@click.option("--output", type=click.Path(path_type=Path), default=OUTPUT, show_default=True)
def main(only: str | None, output: Path) -> None:
    """Plant, run, look; exit code 1 where any code ran, or a file was not reached."""
    kinds = only.split(",") if only else None
    os.environ.update(offline())
    from mtlplug.training import pretrain as _  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        ran = controls(Path(folder))
        if not all(ran.values()):
            sys.exit(f"payloads that never run show nothing: {ran}")
        ground = Ground(Path(folder) / "ground")
        ground.prepare(study=kinds is None or "ledger" in kinds)
        outcomes = []
        for case in all_cases(ground.sound):
            if kinds is None or case.kind in kinds:
                outcomes.append(try_case(ground, case, in_a_fork))
                last = outcomes[-1]
                print(f"{last.kind}: {last.file} ({last.payload}): {last.exit_code} {last.said}",
                      flush=True)  # fmt: skip
    show(summary(outcomes))
    executed = sum(each.executed for each in outcomes)
    unread = [f"{each.kind}: {each.file}" for each in outcomes if not each.reached]
    print(f"{len(outcomes)} cases, {executed} executed, not reached: {unread or 'none'}")
    output.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "command": "python benchmarks/reliability/payloads.py",
        "payloads run when opened carelessly": ran,
        "executed": executed,
        "summary": summary(outcomes),
        "cases": [asdict(each) for each in outcomes],
    }
    output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.exit(1 if executed or unread else 0)


if __name__ == "__main__":
    main()
