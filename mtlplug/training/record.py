"""What a run writes about itself: `run.json` at the start, `report.json` at the end."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import mtlplug
from mtlplug.batching.mixing import Pool
from mtlplug.config import RunConfig
from mtlplug.data.build import TaskData
from mtlplug.model.loading import model_digest
from mtlplug.model.vocabulary import used_rows
from mtlplug.plugin_registry import Registry
from mtlplug.plugin_sources import given
from mtlplug.training.engine import Engine
from mtlplug.training.progress import Progress
from mtlplug.workspace import Workspace
from mtlplug.world import World

FREE_TO_CHANGE = (
    "output",
    "cache",
    "overwrite",
    "log_every",
    "log_to",
    "keep_checkpoints",
    "save_minutes",
    "hang_seconds",
    "allow_change",
    "data",
    "suite",
    "model",
    "deepspeed_config",
    "ignore_memory",
    "tasks",
)
"""Options that do not decide a run's result, or are only the names of what does."""

OF_THE_RANKS = ("train_batch_size", "train_micro_batch_size_per_gpu")
"""What we write into a DeepSpeed configuration to suit the number of ranks."""

# A study asks once for each of its many runs.
_version = functools.cache(importlib.metadata.version)


def describe(
    workspace: Workspace,
    data: Sequence[TaskData],
    pool: Pool,
    deepspeed_config: Mapping[str, Any],
    world: World,
) -> dict[str, Any]:
    """What `run.json` holds; `decides` is what may not change when a run is resumed."""
    options = workspace.config.as_dict()
    registry = workspace.plugins.registry
    decides = deciding(workspace.config, data, deepspeed_config, registry)
    decides["encoder"] = model_digest(workspace.config.model)
    packages = ("torch", "deepspeed", "transformers", "datasets", "tokenizers", "numpy")
    return {
        "mtlplug": mtlplug.__version__,
        "decides": decides,
        "options": options,
        "deepspeed": dict(deepspeed_config),
        "world_size": world.size,
        "device": str(world.device),
        "plugins": [dataclasses.asdict(plugin) for plugin in workspace.plugins.plugins],
        "given_plugins": given(),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in packages},
        },
        "tasks": {
            each.task.name: {
                **describe_task(each),
                "drawn": drawn,
                "info": dict(workspace.suite.info.get(each.task.name, {})),
            }
            for each, drawn in zip(data, pool.counts(0), strict=True)
        },
    }


def deciding(
    config: RunConfig,
    data: Sequence[TaskData],
    deepspeed_config: Mapping[str, Any],
    registry: Registry,
) -> dict[str, Any]:
    """What decides a run's result beside the encoder it starts from, as JSON-like values."""
    code = {
        "mix code": registry.code("mix", config.mix),
        "weighting code": registry.code("loss weighting", config.weighting),
    }
    return {
        **{key: value for key, value in code.items() if value},
        **{key: value for key, value in config.as_dict().items() if key not in FREE_TO_CHANGE},
        "deepspeed": {
            key: value for key, value in deepspeed_config.items() if key not in OF_THE_RANKS
        },
        "tasks": {
            each.task.name: {
                "weight": each.task.weight,
                "metric": each.task.metric,
                # A store's folder is named by the hash of everything its content depends on.
                "data": {split: store.folder.name for split, store in each.stores.items()},
            }
            for each in data
        },
    }


def describe_task(data: TaskData) -> dict[str, Any]:
    """A task as `run.json` shows it."""
    return {
        "format": data.task.format,
        "format_version": data.format.version,
        "labels": list(data.task.labels),
        "options": dict(data.task.options),
        "metric": data.task.metric or data.format.headline,
        "weight": data.task.weight,
        "facts": dict(data.task.facts),
        "splits": {
            split: {
                "source": data.task.sources[split].place,
                "fingerprint": store.meta.get("source"),  # None of a store that older code made
                **{key: store.meta[key] for key in ("rows", "features", "tokens", "counts")},
            }
            for split, store in data.stores.items()
        },
    }


def make_report(
    progress: Progress, engine: Engine, workspace: Workspace, data: Sequence[TaskData]
) -> dict[str, Any]:
    """What `report.json` holds: scores of the best epoch, what the run cost, how it went."""
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
    rows = used_rows(engine.model.encoder)
    return {
        "suite": workspace.suite.name,
        "groups": workspace.config.groups,
        "model": workspace.config.model,
        "best_epoch": progress.stopping.best_epoch + 1,
        "epochs": progress.epoch,
        "best_mean_loss": progress.stopping.best_loss,
        "precision": engine.precision,
        "zero_stage": engine.stage,
        "world_size": engine.world.size,
        # Rows that were trained, where the others were left out.
        "vocabulary": rows.counts if rows else None,
        "seconds": {name: round(value, 3) for name, value in progress.seconds.items()},
        "loader_wait": round(progress.seconds["loader"] / progress.seconds["training"], 4),
        "tokens": progress.tokens,
        "skipped_steps": progress.skipped,
        "tasks": tasks,
    }
