"""Start the ranks of a gradient check as processes, watch them, and collect what they wrote."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from mtlplug.doctor.job import Case, Job

WORKER = ("-m", "mtlplug.doctor.worker")

PATIENCE = 180.0
"""Seconds without a new result after which ranks are taken to wait for each other."""

GRACE = 5.0
"""Seconds that the other ranks get to end by themselves when one has failed."""


@dataclass(frozen=True)
class Trained:
    """What the ranks made of one case.

    Attributes:
        weights: all parameters in the end, float32.
        seen: for each rank, step and micro-batch the numbers of the tasks in it.
    """

    weights: dict[str, Tensor]
    seen: list[list[list[list[int]]]]


def device_of(ranks: int) -> str:
    """Where so many ranks run: on the GPUs where there is one for each, else on the processor."""
    return "cuda" if torch.cuda.device_count() >= ranks else "cpu"


def train_on_ranks(
    job: Job, ranks: int, patience: float = PATIENCE
) -> tuple[dict[str, Trained], str | None]:
    """Train all cases of a job in `ranks` processes.

    Returns:
        The cases that were finished, by name, and why the others were not.
    """
    processes = _start(job.write(), ranks)
    try:
        reason = _watch(job, processes, patience)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return {case.name: _trained(job, case, ranks) for case in _done(job)}, reason


def _start(path: Path, ranks: int) -> list[subprocess.Popen[bytes]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": str(ranks),
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": device_of(ranks),
    }
    if shared["DS_ACCELERATOR"] == "cpu":
        shared["CUDA_VISIBLE_DEVICES"] = ""
    processes = []
    for rank in range(ranks):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        with (path.parent / f"rank{rank}.log").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, *WORKER, str(path)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **shared, **own},
                )
            )
    return processes


def _watch(job: Job, processes: Sequence[subprocess.Popen[bytes]], patience: float) -> str | None:
    """Wait for the processes; returns why they did not all end well, or None."""
    finished, since = 0, time.monotonic()
    while None in (codes := [process.poll() for process in processes]):
        if any(codes):
            time.sleep(GRACE)
            break
        if (number := len(_done(job))) > finished:
            finished, since = number, time.monotonic()
        if time.monotonic() - since > patience:
            return f"nothing came for {patience:.0f} s: the ranks wait for each other"
        time.sleep(0.1)
    codes = [process.poll() for process in processes]
    return _failure(job, codes) if any(code != 0 for code in codes) else None


def _failure(job: Job, codes: Sequence[int | None]) -> str:
    """What the rank that failed first said; the others fail because it is gone."""
    said = []
    for rank in range(len(codes)):
        place = job.folder / f"rank{rank}.error"
        if place.exists():
            when, sentence = json.loads(place.read_text(encoding="utf-8"))
            said.append((when, f"rank {rank}: {sentence}"))
    if said:
        return min(said)[1]
    rank, code = next((rank, code) for rank, code in enumerate(codes) if code)
    log = (job.folder / f"rank{rank}.log").read_text(encoding="utf-8", errors="replace")
    return f"rank {rank} ended with code {code}: {' '.join(log[-300:].split())}"


def _done(job: Job) -> list[Case]:
    return [case for case in job.cases if (job.folder / f"{case.name}.safetensors").exists()]


def _trained(job: Job, case: Case, ranks: int) -> Trained:
    seen = [
        json.loads((job.folder / f"{case.name}-rank{rank}.json").read_text(encoding="utf-8"))
        for rank in range(ranks)
    ]
    return Trained(load_file(job.folder / f"{case.name}.safetensors"), seen)
