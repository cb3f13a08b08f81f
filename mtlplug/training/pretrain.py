"""Pre-finetuning from options to a saved encoder: `mtlplug run`."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import save_file

import mtlplug
from mtlplug.batching.loader import Loader
from mtlplug.batching.mixing import Pool
from mtlplug.batching.packing import Packer
from mtlplug.config import FREE_TO_CHANGE
from mtlplug.data.build import TaskData
from mtlplug.errors import MtlplugError
from mtlplug.formats import Task
from mtlplug.listing import new_console
from mtlplug.model.encoder import Encoder
from mtlplug.model.multitask import MultiTaskModel
from mtlplug.training.deepspeed_config import resolve_deepspeed
from mtlplug.training.distributed import World, start
from mtlplug.training.engine import Engine, load_weights
from mtlplug.training.evaluation import Evaluator
from mtlplug.training.folder import RunFolder
from mtlplug.training.loop import Progress, Training
from mtlplug.training.progress import Display, data_table, score_table
from mtlplug.training.stopping import EarlyStopping
from mtlplug.workspace import Workspace, open_workspace

TRAIN, VALID = "train", "valid"


def pretrain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Train one encoder on groups of tasks and save it; returns the report.

    Started again on the same output folder it goes on after the last complete epoch, and only
    shows the report where the run is complete.

    Raises:
        MtlplugError: an option, the data, the model or the output folder is wrong.
    """
    workspace = open_workspace(options)
    config = workspace.config
    tasks = workspace.suite.select(config.groups)
    folder = RunFolder(config.output)
    folder.check_place()
    world = start()
    console = new_console(quiet=not world.main)
    deepspeed_config = resolve_deepspeed(config, world.size)
    encoder = Encoder.from_pretrained(
        config.model, gradient_checkpointing=config.gradient_checkpointing
    )
    data = build_data(workspace, tasks, console)
    run = describe(workspace, data, deepspeed_config, world)
    claim(folder, run, world, overwrite=config.overwrite)
    if (report := folder.read("report.json")) is not None:
        console.print(f"run in {folder.path} is complete", highlight=False)
        console.print(score_table(report))
        return dict(report)
    console.print(data_table(data))
    training = prepare_training(workspace, data, encoder, deepspeed_config, world, folder, console)
    with training.display:
        training.run()
    return finish(training, workspace, data, console)


def build_data(workspace: Workspace, tasks: Sequence[Task], console: Console) -> list[TaskData]:
    """The stored features of all tasks, made where they are missing."""
    builder = workspace.builder()
    data = []
    with console.status("reading tasks") as status:
        for task in tasks:
            status.update(f"reading {task.name}")
            task_format = workspace.plugins.formats[task.format]
            data.append(builder.build(task, task_format, [TRAIN, VALID]))
    return data


def prepare_training(
    workspace: Workspace,
    data: Sequence[TaskData],
    encoder: Encoder,
    deepspeed_config: Mapping[str, Any],
    world: World,
    folder: RunFolder,
    console: Console,
) -> Training:
    """Model, engine, mix and evaluation, at the beginning or at the last checkpoint."""
    config = workspace.config
    model = new_model(encoder, data, config.seed)
    stores = [each.stores[TRAIN] for each in data]
    pool = Pool([len(store) for store in stores], config.batch_size, config.seed)
    total_steps = pool.steps_per_epoch * config.max_epochs
    engine = Engine(model, config, deepspeed_config, total_steps, world)
    packer = Packer(
        stores,
        [each.format for each in data],
        [each.task.weight for each in data],
        config.max_tokens,
    )
    # Ranks draw their dropout from generators of their own.
    torch.manual_seed(config.seed * 1_000_003 + world.rank)
    state = engine.load_checkpoint(folder)
    progress = Progress.of(state) if state else Progress(EarlyStopping(config.patience))
    if world.main:
        folder.rewind_log(progress.epoch)
    if state:
        console.print(f"resuming after epoch {progress.epoch}", highlight=False)
    return Training(
        config=config,
        world=world,
        engine=engine,
        pool=pool,
        loader=Loader(packer, world.rank, world.size, engine.in_step),
        evaluate=Evaluator(data, VALID, config.max_tokens, world, engine.in_step),
        folder=folder,
        display=Display(console, total_steps, progress.epoch * pool.steps_per_epoch),
        progress=progress,
    )


def new_model(encoder: Encoder, data: Sequence[TaskData], seed: int) -> MultiTaskModel:
    """The encoder with new heads, the same on every rank."""
    torch.manual_seed(seed)
    return MultiTaskModel(
        encoder,
        [each.task for each in data],
        [each.format for each in data],
        [smallest_read(each) for each in data],
    )


def smallest_read(data: TaskData) -> int:
    """Rows that some training feature of a task reads: the fewest above zero."""
    counts_N = data.stores[TRAIN].read_counts_N
    return int(counts_N[counts_N > 0].min()) if (counts_N > 0).any() else 1


def describe(
    workspace: Workspace,
    data: Sequence[TaskData],
    deepspeed_config: Mapping[str, Any],
    world: World,
) -> dict[str, Any]:
    """What `run.json` holds; `decides` is what may not change when a run is resumed."""
    options = workspace.config.as_dict()
    decides = {key: value for key, value in options.items() if key not in FREE_TO_CHANGE}
    decides["deepspeed"] = dict(deepspeed_config)
    # A store's folder is named by the hash of everything its content depends on.
    decides["features"] = {
        each.task.name: {split: store.folder.name for split, store in each.stores.items()}
        for each in data
    }
    packages = ("torch", "deepspeed", "transformers", "datasets", "tokenizers", "numpy")
    return {
        "mtlplug": mtlplug.__version__,
        "decides": decides,
        "options": options,
        "world_size": world.size,
        "device": str(world.device),
        "plugins": [dataclasses.asdict(plugin) for plugin in workspace.plugins.plugins],
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
        "tasks": {each.task.name: describe_task(each) for each in data},
    }


def describe_task(data: TaskData) -> dict[str, Any]:
    """A task as `run.json` shows it."""
    return {
        "format": data.task.format,
        "labels": list(data.task.labels),
        "options": dict(data.task.options),
        "metric": data.task.metric or data.format.headline,
        "weight": data.task.weight,
        "facts": dict(data.task.facts),
        "splits": {
            split: {
                "source": data.task.sources[split].place,
                **{key: store.meta[key] for key in ("rows", "features", "tokens", "counts")},
            }
            for split, store in data.stores.items()
        },
    }


def claim(folder: RunFolder, run: Mapping[str, Any], world: World, *, overwrite: bool) -> None:
    """Rank 0 makes the folder ours; what is wrong with it is said by all ranks alike."""
    problem = None
    if world.main:
        try:
            folder.claim(run, overwrite=overwrite)
        except MtlplugError as error:
            problem = str(error)
    if problem := world.broadcast(problem):
        raise MtlplugError(problem)


def finish(
    training: Training, workspace: Workspace, data: Sequence[TaskData], console: Console
) -> dict[str, Any]:
    """Write encoder and heads of the best epoch, then the report; remove what is not needed."""
    folder, world = training.folder, training.world
    report = make_report(training, workspace, data)
    if world.main:
        encoder = Encoder.from_pretrained(workspace.config.model)
        model = new_model(encoder, data, workspace.config.seed)
        load_weights(model, folder.best)
        save_result(model, workspace, folder)
        folder.write("report.json", report)
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
        shutil.rmtree(folder.best, ignore_errors=True)
        console.print(score_table(report))
        console.print(f"encoder saved in {folder.encoder}", highlight=False, soft_wrap=True)
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
        weights = {name: value.contiguous() for name, value in head.state_dict().items()}
        save_file(weights, unfinished / f"{task.name}.safetensors", {"format": task.format})
    folder.replace(unfinished, folder.heads)


def make_report(
    training: Training, workspace: Workspace, data: Sequence[TaskData]
) -> dict[str, Any]:
    """Scores of the best epoch, what the run cost, and how it went."""
    progress = training.progress
    tasks = {}
    for each in data:
        name = each.task.name
        best = progress.best[name]
        tasks[name] = {
            "format": each.task.format,
            "metric": each.task.metric or each.format.headline,
            "score": best["headline"],
            "untrained": progress.untrained[name]["headline"],
            "first": progress.first[name]["headline"],
            "loss": best["loss"],
            "metrics": {key: best[key] for key in best if key not in ("loss", "headline")},
        }
    return {
        "suite": workspace.suite.name,
        "groups": workspace.config.groups,
        "model": workspace.config.model,
        "best_epoch": progress.stopping.best_epoch + 1,
        "epochs": progress.epoch,
        "best_mean_loss": progress.stopping.best_loss,
        "precision": training.engine.precision,
        "zero_stage": training.engine.stage,
        "world_size": training.world.size,
        "seconds": {name: round(value, 1) for name, value in progress.seconds.items()},
        "tokens": progress.tokens,
        "skipped_steps": progress.skipped,
        "tasks": tasks,
    }
