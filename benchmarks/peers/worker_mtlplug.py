"""Trains with mtlplug: its packed batches, its engine (DeepSpeed), its evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from worker import Pacer, read_job

from mtlplug.data.build import TRAIN, VALID
from mtlplug.model.encoder import Encoder
from mtlplug.model.vocabulary import leave_out_unused
from mtlplug.pages.typesetting import new_console
from mtlplug.training.deepspeed_config import resolve_deepspeed
from mtlplug.training.evaluation import Evaluator
from mtlplug.training.launch import start
from mtlplug.training.pretrain import build_data, prepare_steps
from mtlplug.workspace import open_workspace


def main() -> None:
    """One epoch over the rows, as `mtlplug run` does it."""
    job = read_job()
    pacer = Pacer(job, ["mtlplug", "torch", "transformers", "deepspeed"])
    options = {
        "suite": str(Path(job.folder) / "suite.toml"),
        "cache": Path(job.folder) / "cache",
        "groups": job.mix,
        "model": job.model,
        "precision": "fp32",
        "batch_size": job.batch_size,
        "max_length": job.max_length,
        "max_epochs": 1,
        "learning_rate": job.learning_rate,
        "seed": job.seed,
    }
    workspace = open_workspace(options)
    config, tasks = workspace.config, workspace.suite.select(job.mix)
    world = start()
    data = build_data(workspace, tasks, new_console(quiet=True))
    encoder = Encoder.from_pretrained(job.model)
    deepspeed_config = resolve_deepspeed(config, world.size)
    leave_out_unused(encoder, data, config, deepspeed_config)
    engine, pool, loader = prepare_steps(workspace, data, encoder, deepspeed_config, world)
    pacer.count_tokens(encoder)
    stores = [each.stores[TRAIN] for each in data]
    share_of_row = np.array([store.meta["rows"] / len(store) for store in stores])
    batches = list(pool.epoch(0))
    pacer.begin(len(batches))
    for members, step in zip(batches, loader.steps(batches), strict=True):
        engine.step(step)
        pacer.step(float(share_of_row[members.tasks_B].sum()), len(members))
    scores = Evaluator(data, VALID, config.max_tokens, world)(engine.evaluate)
    pacer.finish({name: each["loss"] for name, each in scores.items()})


if __name__ == "__main__":
    main()
