"""One rank of a gradient check: trains every case of a job and saves its parameters.

Started by `mtlplug.doctor.ranks`, one process per rank.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file
from torch import Tensor

from mtlplug.batching.loader import Loader, Step
from mtlplug.batching.micro_batch import MicroBatch
from mtlplug.batching.mixing import Members
from mtlplug.batching.packing import Packer
from mtlplug.batching.splitting import micro_batches
from mtlplug.config import RunConfig
from mtlplug.doctor.job import Case, Job
from mtlplug.model.encoder import Encoder
from mtlplug.model.multitask import MultiTaskModel, Output
from mtlplug.training.deepspeed_config import resolve_deepspeed
from mtlplug.training.engine import Engine
from mtlplug.training.launch import start
from mtlplug.world import World

FAULTS = ("mean of means", "absent heads last")
"""Mistakes that a comparison must notice: each micro-batch averaged by itself, and heads without
rows that are called after the others, so that ranks call heads in different orders."""


class Uneven(Packer):
    """Shares that differ: of N ranks the first gets N parts of a batch, the last one part.

    In every third batch the last rank gets nothing.
    """

    _planned = 0

    def plan(self, members: Members, ranks: int) -> list[list[Members]]:
        """The micro-batches of every rank: the same answer on all of them."""
        self._planned += 1
        parts = np.arange(ranks, 0, -1)
        if ranks > 1 and self._planned % 3 == 0:
            parts[-1] = 0
        edges = np.cumsum(parts)[:-1] * len(members) // parts.sum()
        lengths_B = self.lengths(members)
        return [
            [members.take(share[part]) for part in micro_batches(lengths_B[share], self.max_tokens)]
            for share in np.split(np.arange(len(members)), edges)
        ]


class AbsentLast(MultiTaskModel):
    """Calls the heads with rows first: another order on every rank, which ZeRO-2 mixes up."""

    def forward(self, batch: MicroBatch) -> Output:
        """As in `MultiTaskModel`, with the same loss."""
        self._late: list[tuple[int, Tensor]] = []
        output = super().forward(batch)
        late = [super(AbsentLast, self)._absent(*each) for each in self._late]
        return replace(output, loss=output.loss + sum(late))

    def _absent(self, number: int, hidden_TD: Tensor) -> Tensor:
        self._late.append((number, hidden_TD))
        return hidden_TD.new_zeros(())


def train(job: Job, case: Case, world: World) -> None:
    """Train one case; save the parameters, and which tasks this rank ran in each micro-batch."""
    recipe = job.recipe
    config = RunConfig(
        batch_size=recipe.batch_size,
        max_tokens=recipe.max_tokens,
        learning_rate=recipe.rate,
        gradient_clipping=recipe.clipping,
        deepspeed_config=_write_config(job, case, world),
        seed=recipe.seed,
    )
    model = job.model(Encoder.from_pretrained(case.encoder))
    if case.fault == "absent heads last":
        model.__class__ = AbsentLast
    engine = Engine(model, config, resolve_deepspeed(config, world.size), 10**9, world)
    packer = Uneven(**job.packing, max_tokens=recipe.max_tokens)
    loader = Loader(packer, world, engine.in_step)
    seen = []
    for members in job.batches():
        step = loader.step(members)
        if case.fault == "mean of means":
            step = _mean_of_means(step, world.size)
        seen.append([sorted(micro_batch.tasks) for micro_batch in step.micro_batches])
        engine.step(step)
    _save(job, case, seen, engine, world)
    engine.engine.destroy()


def _save(job: Job, case: Case, seen: list[Any], engine: Engine, world: World) -> None:
    """Write what the parent reads; the parameters last, in one piece."""
    place = job.folder / f"{case.name}-rank{world.rank}.json"
    place.write_text(json.dumps(seen), encoding="utf-8")
    weights = engine.weights()
    world.barrier()
    if world.main:
        unfinished = job.folder / f"{case.name}.tmp"
        save_file(weights, unfinished)
        unfinished.rename(job.folder / f"{case.name}.safetensors")


def _write_config(job: Job, case: Case, world: World) -> Path:
    """The case's DeepSpeed JSON, as a user would give one; every rank writes its own."""
    optimizer = {"lr": job.recipe.rate, "momentum": job.recipe.momentum}
    config = {**case.deepspeed, "optimizer": {"type": "SGD", "params": optimizer}}
    path = job.folder / f"{case.name}-deepspeed{world.rank}.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def _mean_of_means(step: Step, ranks: int) -> Step:
    """Each micro-batch weighted as if it were all: wrong where their sizes differ."""
    parts = []
    for part in step.micro_batches:
        features = len(part.rows.weights_B)
        factor = step.features / (features * len(step.micro_batches) * ranks)
        rows = replace(part.rows, weights_B=part.rows.weights_B * factor)
        parts.append(MicroBatch(part.stream, rows))
    return replace(step, micro_batches=tuple(parts))


def main(path: Path) -> None:
    """Train all cases in turn; what goes wrong is left beside the results, with its time."""
    try:
        job = Job.read(path)
        world = start()
        for case in job.cases:
            train(job, case, world)
    except BaseException as error:
        sentence = " ".join(f"{type(error).__name__}: {error}".split())
        place = path.parent / f"rank{os.environ['RANK']}.error"
        place.write_text(json.dumps([time.time(), sentence]), encoding="utf-8")
        raise


if __name__ == "__main__":
    main(Path(sys.argv[1]))
