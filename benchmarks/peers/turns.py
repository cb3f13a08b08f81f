"""Lets workers take turns on one machine: A B C, C B A, A B C, ..."""

from __future__ import annotations

import json
import select
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from environments import HERE, UnavailableError, last_line, variables
from rich.console import Console
from worker import Job


@dataclass
class Turn:
    """One tool: its process, and what it has reported.

    Attributes:
        python: its interpreter, or the reason why there is none.
        limit: most seconds until it answers.
        status: "ok", or why it could not go on.
    """

    tool: str
    python: Path | str
    job: Job
    work: Path
    limit: float
    status: str = "ok"
    reports: list[dict[str, Any]] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    @property
    def log(self) -> Path:
        """What the tool printed."""
        return self.work / "logs" / f"{self.job.mix}-{self.tool}.txt"

    def start(self) -> None:
        """Start the process; it loads its data and model, and reports when it is ready."""
        if isinstance(self.python, str):
            raise UnavailableError(self.python)
        scratch = self.work / "scratch" / f"{self.job.mix}-{self.tool}"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(parents=True, exist_ok=True)
        path = scratch.with_suffix(".json")
        job = asdict(replace(self.job, scratch=str(scratch)))
        path.write_text(json.dumps(job), encoding="utf-8")
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [str(self.python), str(HERE / f"worker_{self.tool}.py"), str(path)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                env=variables(self.tool, self.work, self.job.threads),
            )  # fmt: skip
        self._receive()

    def go(self) -> None:
        """Let it run its next block, or in the end its evaluation."""
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # its log says why, below
        self._receive()

    def _receive(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        # One line for each "go", so none waits in the buffer of the file.
        if not select.select([self.process.stdout], [], [], self.limit)[0]:
            raise UnavailableError(f"no answer in {self.limit:.0f} s")
        if line := self.process.stdout.readline():
            self.reports.append(json.loads(line))
            return
        code = self.process.wait()
        said = last_line(self.log.read_text(encoding="utf-8", errors="replace"))
        raise UnavailableError(f"stopped with exit code {code}: {said}")

    def stop(self) -> None:
        """End the process, if it still runs."""
        if self.process is None:
            return
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def result(self) -> dict[str, Any]:
        """What it reported: versions and steps, the blocks, the losses."""
        if self.status != "ok" or "losses" not in self.reports[-1]:
            reason = "not run to its end" if self.status == "ok" else self.status
            return {"status": reason}
        first, *blocks, last = self.reports
        return {"status": self.status, "versions": first["versions"], "steps": first["steps"],
                "blocks": blocks, "losses": last["losses"]}  # fmt: skip


def take_turns(turns: Mapping[str, Turn], rounds: int, console: Console) -> dict[str, Any]:
    """Run all tools, one at a time; one that fails is left out from there on.

    Each is asked `rounds + 2` times: for its first step, for each block, and for its losses.
    Without the first tool, with which all are compared, nothing goes on.
    """
    first = next(iter(turns.values()))
    try:
        for number in range(-1, rounds + 2):
            order = list(turns.values())
            for turn in order if number % 2 else reversed(order):
                if turn.status != "ok" or first.status != "ok":
                    continue
                try:
                    with console.status(f"{turn.job.mix}, turn {number}: {turn.tool}"):
                        turn.start() if number < 0 else turn.go()
                except UnavailableError as error:
                    turn.status = str(error)
                    turn.stop()
    finally:
        for turn in turns.values():
            turn.stop()
    return {name: turn.result() for name, turn in turns.items()}
