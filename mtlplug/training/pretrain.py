"""Pre-finetuning from options to a saved encoder: `mtlplug run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import save_model

from mtlplug.batching.loader import Loader
from mtlplug.batching.mixes import mixed_pool
from mtlplug.batching.mixing import Pool
from mtlplug.batching.packing import Packer
from mtlplug.config import RunConfig
from mtlplug.data.build import TRAIN, VALID, TaskData
from mtlplug.data.parallel import build_all
from mtlplug.errors import MtlplugError
from mtlplug.formats import Task
from mtlplug.model.activations import Activations
from mtlplug.model.encoder import Encoder
from mtlplug.model.flops import encoder_flops
from mtlplug.model.multitask import MultiTaskModel
from mtlplug.model.vocabulary import leave_out_unused, trimmed_as, used_rows
from mtlplug.model.weighting import Make
from mtlplug.pages.typesetting import new_console, print_table
from mtlplug.training.checkpoint import Checkpoints
from mtlplug.training.deepspeed_config import resolve_deepspeed
from mtlplug.training.display import (
    BuildDisplay,
    Display,
    data_table,
    score_table,
    vocabulary_line,
)
from mtlplug.training.engine import Engine, load_weights
from mtlplug.training.evaluation import Evaluator
from mtlplug.training.extensions import prepare_extensions
from mtlplug.training.folder import RunFolder, claimed
from mtlplug.training.launch import start
from mtlplug.training.loop import Training
from mtlplug.training.memory import (
    Memory,
    check_memory,
    foretell,
    give_back_memory,
    largest_micro_batch,
)
from mtlplug.training.observers import Observers
from mtlplug.training.progress import Progress
from mtlplug.training.record import describe, make_report
from mtlplug.training.stopping import EarlyStopping
from mtlplug.training.trackers import trackers_of
from mtlplug.workspace import Workspace
from mtlplug.world import World


def pretrain(workspace: Workspace, *, only_scores: bool = False) -> dict[str, Any]:
    """Train one encoder on groups of tasks and save it; returns the report.

    Started again on the same output folder it goes on from the newest checkpoint, and only shows
    the report where the run is complete.

    Args:
        workspace: plugins, suite, options.
        only_scores: keep the report alone, no encoder and heads.

    Raises:
        MtlplugError: the data, the model or the output folder is wrong.
        StoppedError: a signal asked for it; the state is saved.
    """
    config = workspace.config
    tasks = workspace.suite.select(config.groups)
    trackers = trackers_of(config.log_to)
    folder = RunFolder(config.output)
    folder.check_place()
    prepare_extensions(config.cache)
    world = start()
    console = new_console(quiet=not world.main)
    deepspeed_config = resolve_deepspeed(config, world.size)
    encoder = Encoder.from_pretrained(
        config.model, gradient_checkpointing=config.gradient_checkpointing
    )
    data = build_data(workspace, tasks, console, encoder.max_length)
    mix = prepare_mix(workspace, data, encoder)
    run = describe(workspace, data, mix[0], deepspeed_config, world)
    if not config.overwrite:
        folder.check(run)
        if report := _report_of(folder, world, console):
            return report
    print_table(console, data_table(data))
    if rows := leave_out_unused(encoder, data, config, deepspeed_config):
        console.print(vocabulary_line(rows), highlight=False)
    if not config.ignore_memory:
        memory = foretell_memory(workspace, data, encoder, mix, deepspeed_config, world)
        check_memory(memory, config, world)
    observers = Observers(workspace.plugins.manager, trackers, folder, active=world.main)
    training = prepare_training(
        workspace, data, encoder, mix, deepspeed_config, world, folder, observers, console
    )
    training.only_scores = only_scores
    report = None
    with claimed(folder, run, world, overwrite=config.overwrite), folder.in_need_of_room():
        if report := _report_of(folder, world, console):  # of who held the folder until now
            return report
        training.resume()
        if problem := world.broadcast(observers.start(run, training.done)):
            raise MtlplugError(problem)
        try:
            with training.display:
                training.run()
            report = finish(training, workspace, data, console)
            return report
        finally:
            observers.end(report)


def _report_of(folder: RunFolder, world: World, console: Console) -> dict[str, Any] | None:
    """The report of a run that is complete, shown."""
    report = world.broadcast(folder.read("report.json") if world.main else None)
    if report is None:
        return None
    console.print(f"run in {folder.path} is complete", markup=False, highlight=False)
    print_table(console, score_table(report))
    return dict(report)


def foretell_memory(
    workspace: Workspace,
    data: Sequence[TaskData],
    encoder: Encoder,
    mix: tuple[Pool, Packer],
    deepspeed_config: Mapping[str, Any],
    world: World,
) -> Memory:
    """Peak memory of one rank, before anything is allocated for training."""
    config = workspace.config
    pool, packer = mix
    longest = max(int(each.stores[TRAIN].lengths_N.max()) for each in data)
    activations, tokens = largest_micro_batch(
        packer,
        pool,
        world.size,
        Activations.of(encoder.to(world.device), min(longest, encoder.max_length)),
        checkpointing=config.gradient_checkpointing,
    )
    model = new_model(encoder, data, config.seed, workspace.weighting)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rows = used_rows(encoder)
    del model
    give_back_memory()
    left_out = rows.left_out if rows else 0
    return foretell(parameters, activations, tokens, deepspeed_config, world, left_out)


def build_data(
    workspace: Workspace, tasks: Sequence[Task], console: Console, limit: int | None = None
) -> list[TaskData]:
    """The stored features of all tasks, made where they are missing.

    Args:
        workspace: plugins, suite, options.
        tasks: of the suite.
        console: shows the reading.
        limit: the longest sequence the encoder takes, where it is known.
    """
    jobs = [(task, workspace.plugins.formats[task.format]) for task in tasks]
    builder = workspace.builder(limit)
    # Our own defaults are more than some encoders take, and nobody asked for them.
    wanted = {builder.wanted_length(task) for task in tasks} - {
        RunConfig.max_length,
        *(each.options.get("max_length") for _, each in jobs),
    }
    if wanted and max(wanted) > builder.limit:
        console.print(
            f"max_length {max(wanted)}: this encoder takes {builder.limit} tokens, longer "
            "sequences are cut there",
            highlight=False,
            soft_wrap=True,
        )
    with BuildDisplay(console, len(jobs)) as reading:
        return build_all(builder, jobs, [TRAIN, VALID], reading.tell)


def prepare_training(
    workspace: Workspace,
    data: Sequence[TaskData],
    encoder: Encoder,
    mix: tuple[Pool, Packer],
    deepspeed_config: Mapping[str, Any],
    world: World,
    folder: RunFolder,
    observers: Observers,
    console: Console,
) -> Training:
    """Model, engine and evaluation."""
    config = workspace.config
    engine, pool, loader = prepare_steps(workspace, data, encoder, deepspeed_config, world, mix)
    # Ranks draw their dropout from generators of their own.
    torch.manual_seed(world.own_seed(config.seed))
    return Training(
        config=config,
        world=world,
        engine=engine,
        pool=pool,
        loader=loader,
        evaluate=Evaluator(
            data, VALID, config.max_tokens, world, engine.in_step, loader.packer.pair_cost
        ),
        folder=folder,
        observers=observers,
        checkpoints=Checkpoints(folder.checkpoints, world, config.keep_checkpoints),
        display=Display(console, pool.steps_per_epoch * config.max_epochs),
        progress=Progress(EarlyStopping(config.patience)),
    )


def prepare_steps(
    workspace: Workspace,
    data: Sequence[TaskData],
    encoder: Encoder,
    deepspeed_config: Mapping[str, Any],
    world: World,
    mix: tuple[Pool, Packer] | None = None,
) -> tuple[Engine, Pool, Loader]:
    """What steps are made of: the engine, the mix and what packs its batches.

    `mix` is `prepare_mix`'s, where it is there already.
    """
    config = workspace.config
    pool, packer = mix or prepare_mix(workspace, data, encoder)
    model = new_model(encoder, data, config.seed, workspace.weighting)
    total_steps = pool.steps_per_epoch * config.max_epochs
    engine = Engine(model, config, deepspeed_config, total_steps, world)
    return engine, pool, Loader(packer, world, engine.in_step)


def prepare_mix(
    workspace: Workspace, data: Sequence[TaskData], encoder: Encoder
) -> tuple[Pool, Packer]:
    """Which features make a batch, and what packs them."""
    config = workspace.config
    sizes = {each.task.name: len(each.stores[TRAIN]) for each in data}
    pool = mixed_pool(sizes, workspace.mix, config.batch_size, config.seed)
    packer = Packer(
        [each.stores[TRAIN] for each in data],
        [each.format for each in data],
        [each.task.weight for each in data],
        config.max_tokens,
        encoder_flops(encoder).pair_cost,
    )
    return pool, packer


def new_model(
    encoder: Encoder, data: Sequence[TaskData], seed: int, weighting: Make | None = None
) -> MultiTaskModel:
    """The encoder with new heads, the same on every rank."""
    torch.manual_seed(seed)
    tasks = [each.task for each in data]
    return MultiTaskModel(
        encoder,
        tasks,
        [each.format for each in data],
        [smallest_read(each) for each in data],
        weighting(tasks) if weighting else None,
    )


def smallest_read(data: TaskData) -> int:
    """Rows that some training feature of a task reads: the fewest above zero."""
    counts_N = data.stores[TRAIN].read_counts_N
    return int(counts_N[counts_N > 0].min()) if (counts_N > 0).any() else 1


def finish(
    training: Training, workspace: Workspace, data: Sequence[TaskData], console: Console
) -> dict[str, Any]:
    """Write encoder and heads of the best epoch, then the report; remove what is not needed."""
    folder, world = training.folder, training.world
    report = make_report(training.progress, training.engine, workspace, data)
    if world.main:
        if not training.only_scores:
            encoder = Encoder.from_pretrained(workspace.config.model)
            model = new_model(encoder, data, workspace.config.seed, workspace.weighting)
            found = training.checkpoints.find(str(training.progress.best_at))
            with trimmed_as(encoder, training.engine.model.encoder):
                load_weights(model, found)
            save_result(model, workspace, folder)
        folder.write("report.json", report)
        folder.remove_leftovers()
        print_table(console, score_table(report))
        if not training.only_scores:
            saved = f"encoder saved in {folder.encoder}"
            console.print(saved, markup=False, highlight=False, soft_wrap=True)
    world.barrier()
    return report


def save_result(model: MultiTaskModel, workspace: Workspace, folder: RunFolder) -> None:
    """Write `encoder/` and `heads/`."""
    unfinished = Path(f"{folder.encoder}.tmp")
    model.encoder.save(unfinished, workspace.tokenizer)
    folder.replace(unfinished, folder.encoder)
    unfinished = Path(f"{folder.heads}.tmp")
    unfinished.mkdir(exist_ok=True)
    for task, head in zip(model.tasks, model.heads, strict=True):
        # A parameter that has two names in a head is written once.
        save_model(head, str(unfinished / f"{task.name}.safetensors"), {"format": task.format})
    folder.replace(unfinished, folder.heads)
