"""Trains a few steps under several DeepSpeed configurations and saves the parameters.

Started by `test_gradient.py`, one process per rank.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtlplug.batching import packing
from mtlplug.batching.loader import Loader
from mtlplug.batching.mixing import Pool
from mtlplug.batching.packing import Packer
from mtlplug.config import RunConfig
from mtlplug.model.multitask import MultiTaskModel
from mtlplug.training import engine as engine_module
from mtlplug.training.deepspeed_config import resolve_deepspeed
from mtlplug.training.engine import Engine
from mtlplug.training.folder import RunFolder
from mtlplug.training.launch import start
from mtlplug.training.pretrain import new_model
from mtlplug.world import World
from tests import toy

STEPS, BATCH, MAX_TOKENS, RATE, SEED = 6, 12, 60, 0.3, 3


def sgd(groups: Any, config: RunConfig) -> torch.optim.SGD:
    """Plain descent: Adam would blow up rounding where a gradient is zero in exact arithmetic."""
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9)


def uneven(costs_B: Any, ranks: int) -> list[Any]:
    """Seven features of ten on rank 0, whatever they cost."""
    cut = len(costs_B) * 7 // 10 if ranks == 2 else len(costs_B)
    return [np.arange(cut), np.arange(cut, len(costs_B))][:ranks]


def train(folder: Path, config_file: Path, out: Path, world: World) -> None:
    """Train under one configuration; save the parameters and what this rank ran."""
    data = toy.task_data(folder)
    config = RunConfig(
        batch_size=BATCH, max_tokens=MAX_TOKENS, learning_rate=RATE,
        deepspeed_config=config_file, seed=SEED,
    )  # fmt: skip
    model = new_model(toy.encoder(), data, SEED)
    toy.without_dropout(model)
    engine = Engine(model, config, resolve_deepspeed(config, world.size), 10**9, world)
    stores = [each.stores["train"] for each in data]
    packer = Packer(stores, [each.format for each in data], [1.0] * len(data), MAX_TOKENS)
    loader = Loader(packer, world, engine.in_step)
    pool = Pool([len(store) for store in stores], BATCH, SEED)
    seen = []
    for _, members in zip(range(STEPS), pool.epoch(0), strict=False):
        step = loader.step(members)
        seen.append([sorted(micro_batch.tasks) for micro_batch in step.micro_batches])
        engine.step(step)
    engine.save_weights(RunFolder(out.parent), out)
    (out.parent / f"{out.name}-rank{world.rank}.json").write_text(json.dumps(seen))
    engine.engine.destroy()


def main(folder: Path, configs: list[str], heads: str) -> None:
    """Train under each configuration in turn."""
    world = start()
    engine_module.adamw = sgd  # type: ignore[assignment]
    packing.split_over_ranks = uneven
    if heads == "skip":
        MultiTaskModel._absent = lambda *_: 0.0  # type: ignore[assignment,method-assign,return-value]
    for config in configs:
        train(folder, Path(config), Path(config).with_suffix(""), world)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[3:], sys.argv[2])
