"""What all workers share: the pace that the comparison sets, counting, and the data's folder.

A worker is a process that trains with one tool. It trains a block of steps when it is told to,
reports, and waits, so that blocks of several tools can alternate on one machine. It talks in
lines of JSON over its standard output; whatever a tool prints goes to standard error instead.

Runs in every tool's own environment: imports nothing but torch and the standard library.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle


@dataclass(frozen=True)
class Job:
    """What a worker is to do; the comparison writes it as JSON.

    Attributes:
        model: folder of the pretrained encoder.
        folder: the prepared data (see `prepare`).
        scratch: where the tool may write.
        mix: groups trained together, for example "SL+C".
        tasks: name, format code and labels of each task, in order.
        batch_size: examples of an optimizer step.
        micro_batch: most examples run through the encoder at once, where a tool cannot bound
            them by tokens.
        max_length: tokens of the longest sequence.
        learning_rate: peak, decaying linearly to zero.
        rounds: blocks the epoch is cut into, after one step of warming up.
        threads: for the arithmetic.
        seed: of new heads, dropout and shuffling.
        checkout: a source tree, for a tool that cannot be installed.
    """

    model: str
    folder: str
    scratch: str
    mix: str
    tasks: Sequence[Mapping[str, Any]]
    batch_size: int
    micro_batch: int
    max_length: int
    learning_rate: float
    rounds: int
    threads: int
    seed: int
    checkout: str | None = None

    def lines(self, name: str) -> Iterator[Any]:
        """The records of one of the prepared JSONL files."""
        with (Path(self.folder) / name).open(encoding="utf-8") as file:
            yield from map(json.loads, file)

    def rows(self, task: str) -> list[Any]:
        """The training rows of a task."""
        return list(self.lines(f"{task}.train.jsonl"))

    def features(self, split: str) -> list[Any]:
        """The features of all tasks: those to train on in mtlplug's order, or those to score."""
        return list(self.lines(f"{self.mix}.{split}.features.jsonl"))


def boundaries(steps: int, rounds: int) -> list[int]:
    """Steps after which a worker pauses: the first one, then `rounds` nearly equal blocks.

    >>> boundaries(12, 4)
    [1, 3, 6, 9, 12]
    """
    return sorted({1, *(1 + (steps - 1) * number // rounds for number in range(1, rounds + 1))})


@dataclass
class Block:
    """What was done since the last pause.

    Attributes:
        rows: rows of the datasets (of a long text only its share that was trained on).
        features: sequences.
        tokens: tokens of these sequences.
        computed: tokens that went through the encoder, padding included.
    """

    steps: int = 0
    rows: float = 0.0
    features: int = 0
    tokens: int = 0
    computed: int = 0
    started: float = field(default_factory=time.perf_counter)
    cpu_started: float = field(default_factory=time.process_time)

    def report(self) -> dict[str, Any]:
        """The counts with wall and CPU seconds and the process's peak memory."""
        return {
            "steps": self.steps,
            "rows": round(self.rows, 2),
            "features": self.features,
            "tokens": self.tokens,
            "computed": self.computed,
            "seconds": round(time.perf_counter() - self.started, 4),
            "cpu_seconds": round(time.process_time() - self.cpu_started, 4),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }


class Pacer:
    """Keeps a tool's training loop to the pace of the comparison."""

    def __init__(self, job: Job, packages: Sequence[str]) -> None:
        # From here on the tool's own prints go to standard error.
        self._out = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        os.dup2(2, 1)
        torch.set_num_threads(job.threads)
        torch.manual_seed(job.seed)
        self._rounds = job.rounds
        self._packages = packages
        self._pauses: list[int] = []
        self._steps = 0
        self._block = Block()

    def count_tokens(self, model: nn.Module, padding: int = 0) -> list[RemovableHandle]:
        """Count what goes through the encoder while it trains, at its embedding of token ids.

        Returns what takes the counters off again, where a tool saves the model as a whole.
        """

        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            if module.training:
                self._block.computed += inputs[0].numel()
                self._block.tokens += int((inputs[0] != padding).sum())

        tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
        largest = max(table.num_embeddings for table in tables)
        return [
            table.register_forward_pre_hook(hook)
            for table in tables
            if table.num_embeddings == largest
        ]

    def begin(self, steps: int) -> None:
        """Say that all is loaded, and wait for the first block."""
        self._pauses = boundaries(steps, self._rounds)
        versions = {name: importlib.metadata.version(name) for name in self._packages}
        versions["python"] = platform.python_version()
        self._send({"ready": True, "versions": versions, "steps": steps})

    def step(self, rows: float, features: int) -> None:
        """Take note of an optimizer step; at the end of a block report and wait."""
        self._steps += 1
        self._block.steps += 1
        self._block.rows += rows
        self._block.features += features
        if self._steps in self._pauses:
            self._send(self._block.report())

    def finish(self, losses: Mapping[str, float]) -> None:
        """Report the validation loss of each task."""
        print(json.dumps({"losses": dict(losses)}), file=self._out)

    def _send(self, message: Mapping[str, Any]) -> None:
        print(json.dumps(message), file=self._out)
        if not sys.stdin.readline():
            sys.exit("the comparison is gone")
        self._block = Block()


def read_job() -> Job:
    """The job this process was started for."""
    return Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
