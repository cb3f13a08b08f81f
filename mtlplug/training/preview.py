"""What `mtlplug run --dry-run` shows: options, rows, and an estimate of time and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from rich.console import Console

from mtlplug.batching.mixing import Members, Pool
from mtlplug.batching.packing import Packer
from mtlplug.config import DEFAULT, RunConfig
from mtlplug.data.build import TRAIN, VALID, TaskData
from mtlplug.listing import show_rows
from mtlplug.model.activations import seconds_of_pass
from mtlplug.model.encoder import Encoder
from mtlplug.model.vocabulary import leave_out_unused
from mtlplug.pages.table import Table, row_of
from mtlplug.pages.typesetting import new_console, print_table
from mtlplug.pages.wording import duration, plural
from mtlplug.training.deepspeed_config import resolve_deepspeed
from mtlplug.training.display import data_table, vocabulary_line
from mtlplug.training.engine import precision_of
from mtlplug.training.folder import RunFolder
from mtlplug.training.launch import start
from mtlplug.training.memory import GIB, Memory, free_bytes
from mtlplug.training.pretrain import build_data, foretell_memory, prepare_mix
from mtlplug.workspace import Workspace, open_workspace
from mtlplug.world import World

PROBE = {"cpu": 1024, "cuda": 8192}
"""Tokens of the micro-batch that is timed."""

EVALUATION = 1 / 3
"""What a forward pass costs of a forward and backward pass."""


def preview(options: Mapping[str, Any], rows: int = 1) -> dict[str, Any]:
    """Print what `mtlplug run` with these options would do; train nothing, write no run.

    Features are stored in the cache, where the run itself finds them.

    Args:
        options: as for `pretrain`.
        rows: of each task to show.

    Returns:
        `options`, `deepspeed`, `memory` (bytes of a rank) and `seconds` (of an epoch).

    Raises:
        MtlplugError: an option, the data, the model or the output folder is wrong.
    """
    workspace = open_workspace(options)
    config = workspace.config
    tasks = workspace.suite.select(config.groups)
    RunFolder(config.output).check_place()
    world = start()
    console = new_console(quiet=not world.main)
    deepspeed_config = resolve_deepspeed(config, world.size)
    print_table(console, options_table(workspace))
    data = build_data(workspace, tasks, console)
    encoder = Encoder.from_pretrained(
        config.model, gradient_checkpointing=config.gradient_checkpointing
    )
    print_table(console, data_table(data))
    for task, each in zip(tasks, data, strict=True):
        show_rows(console, workspace.builder(), task, each.format, TRAIN, rows)
    pool, packer = prepare_mix(workspace, data, encoder)
    if rows_trained := leave_out_unused(encoder, data, config, deepspeed_config):
        console.print(vocabulary_line(rows_trained), highlight=False)
    memory = foretell_memory(workspace, data, encoder, (pool, packer), deepspeed_config, world)
    precision = precision_of(deepspeed_config)
    seconds = epoch_seconds(encoder.to(world.device), pool, packer, data, precision, world)
    console.rule("estimate", align="left")
    _show_memory(console, memory, world)
    _show_time(console, config, pool, seconds)
    console.print("nothing was trained, and no run was written", highlight=False)
    return {
        "options": config.as_dict(),
        "deepspeed": deepspeed_config,
        "memory": memory.as_dict(),
        "seconds": seconds,
    }


def options_table(workspace: Workspace) -> Table:
    """Every option with its value and where it comes from, those that somebody gave first."""
    values = workspace.config.as_dict()
    shown = {k: "-" if v in (None, "", (), {}) else str(v) for k, v in values.items()}
    rows = [
        row_of(name, shown[name], workspace.origins.get(name, DEFAULT))
        for name in sorted(values, key=lambda name: name not in workspace.origins)
    ]
    return Table("options", "options", ("option", "value", "from"), tuple(rows), words=3)


def epoch_seconds(
    encoder: Encoder,
    pool: Pool,
    packer: Packer,
    data: Sequence[TaskData],
    precision: str,
    world: World,
) -> dict[str, float]:
    """Seconds of an epoch's training and of its evaluation, from a few timed passes.

    The optimizer's update is left out; `mtlplug bench` times whole steps.
    """
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
    cast = nullcontext() if dtype is None else torch.autocast(world.device.type, dtype)
    drawn = pool.members(pool.drawn(0))
    sample = _sample(next(pool.epoch(0)), packer, PROBE[world.device.type])
    with cast:
        passed = seconds_of_pass(encoder, packer.lengths(sample).tolist())
    rate = passed / packer.costs(sample).sum() / world.size
    valid = Packer(
        [each.stores[VALID] for each in data],
        packer.formats,
        [1.0] * len(data),
        packer.max_tokens,
        packer.pair_cost,
    )
    scored = Pool([len(store) for store in valid.stores], len(pool), pool.seed)
    scoring = valid.costs(scored.members(np.arange(len(scored)))).sum()
    return {
        "training": float(rate * packer.costs(drawn).sum()),
        "evaluation": float(rate * scoring * EVALUATION),
    }


def _sample(members: Members, packer: Packer, tokens: int) -> Members:
    """The first features of a batch, up to so many tokens, at least one."""
    fit = int((packer.lengths(members).cumsum() <= tokens).sum())
    return members.take(np.arange(max(1, fit)))


def _show_memory(console: Console, memory: Memory, world: World) -> None:
    free = free_bytes(world.device)
    parts = ", ".join(
        f"{name} {getattr(memory, name) / GIB:.2f}"
        for name in ("libraries", "weights", "optimizer", "gradients", "activations")
    )
    console.print(
        f"memory of a rank: {memory.peak / GIB:.2f} GiB at its peak ({parts}; "
        f"{memory.parameters / 1e6:.1f} million parameters, ZeRO stage {memory.stage}, largest "
        f"micro-batch {memory.tokens:,} tokens)"
        + ("" if free is None else f"; free now: {free / GIB:.1f} GiB"),
        highlight=False,
    )
    if world.device.type == "cuda":
        console.print("the figures for GPUs have not been compared with runs", highlight=False)


def _show_time(
    console: Console, config: RunConfig, pool: Pool, seconds: Mapping[str, float]
) -> None:
    epoch = sum(seconds.values())
    console.print(
        f"time: about {duration(epoch)} an epoch of {plural(pool.steps_per_epoch, 'step')}, "
        f"of which evaluation {duration(seconds['evaluation'])}; at most "
        f"{plural(config.max_epochs, 'epoch')}, {duration(epoch * config.max_epochs)}; without "
        "updates and reading (mtlplug bench measures whole steps)",
        highlight=False,
    )
