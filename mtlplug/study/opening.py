"""From the options of a command to the plan of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from mtlplug.data.build import TRAIN, TaskData
from mtlplug.data.parallel import build_all
from mtlplug.errors import MtlplugError
from mtlplug.model.encoder import Encoder
from mtlplug.model.flops import encoder_flops
from mtlplug.study.ledger import Ledger
from mtlplug.study.overview import Overview
from mtlplug.study.plan import FINETUNE, PRETRAIN, Plan
from mtlplug.study.results import BASELINE, Target
from mtlplug.study.settings import Settings, settings_of
from mtlplug.training.deepspeed_config import default_precision
from mtlplug.training.pretrain import VALID
from mtlplug.training.progress import BuildDisplay
from mtlplug.workspace import Workspace, open_workspace

SHARED = ("max_length", "max_rows_per_task", "max_tokens", "batch_size", "gradient_checkpointing")
"""Options of the command that all runs of the study share, where given."""


@dataclass(frozen=True)
class Study:
    """A study, planned, and its folder."""

    plan: Plan
    ledger: Ledger
    overview: Overview
    targets: tuple[Target, ...]
    encoder: Encoder

    def as_dict(self) -> dict[str, Any]:
        """What `study.json` holds."""
        plan = self.plan
        return {
            "settings": plan.settings.as_dict(),
            "options": dict(plan.options),
            "threads": plan.threads,
            "suite": plan.workspace.suite.name,
            "title": plan.workspace.suite.title,
            "targets": [vars(each) for each in self.targets],
            "cells": {cell.name: self.plan.title(cell) for cell in self.overview.cells()},
        }


def open_study(
    options: Mapping[str, Any], given: Mapping[str, Any], folder: Path, console: Console
) -> Study:
    """Read the suite and the data, and plan the cells; nothing is written.

    Args:
        options: of the command, as for `mtlplug run`.
        given: settings of the study, resolved (`settings`) or as for `settings_of`; `threads`.
        folder: of the study.
        console: shows the reading of data.

    Raises:
        MtlplugError: an option, the suite, the data or the folder is wrong.
    """
    ledger = Ledger(folder)
    ledger.check_place()
    workspace = open_workspace({"suite": options.get("suite"), **options, "output": folder})
    settings = given.get("settings") or settings_of(workspace, given)
    shared = shared_options(workspace, options)
    encoder = Encoder.from_pretrained(workspace.config.model)
    data = build(workspace, settings, shared, encoder.max_length, console)
    plan = Plan(
        settings=settings,
        options=shared,
        workspace=workspace,
        data=data,
        pair_cost=encoder_flops(encoder).pair_cost,
        threads=int(given.get("threads") or 1),
    )
    targets = tuple(
        target_of(data[FINETUNE][name], workspace.suite.info.get(name, {}))
        for name in settings.targets
    )
    return Study(plan, ledger, Overview(plan, ledger), targets, encoder)


def shared_options(workspace: Workspace, options: Mapping[str, Any]) -> dict[str, Any]:
    """What all runs are told, as JSON-like values that mean the same in any folder."""
    config = workspace.config
    suite = Path(config.suite)
    values = {
        "suite": str(suite.resolve()) if suite.is_file() else config.suite,
        "data": None if config.data is None else str(config.data.resolve()),
        "cache": str(config.cache.resolve()),
        "model": str(Path(config.model).resolve()) if Path(config.model).is_dir() else config.model,
        "precision": config.precision or default_precision(),
    }
    values |= {name: options.get(name) for name in SHARED}
    return {name: value for name, value in values.items() if value is not None}


def build(
    workspace: Workspace,
    settings: Settings,
    shared: Mapping[str, Any],
    limit: int,
    console: Console,
) -> dict[str, dict[str, TaskData]]:
    """The stored features of everything the study trains on, made where they are missing.

    Args:
        workspace: plugins, suite, options.
        settings: what is run.
        shared: options that all runs share.
        limit: the longest sequence the encoder takes.
        console: shows the reading.
    """
    suite, formats = workspace.suite, workspace.plugins.formats
    columns = [each for each in settings.columns if each != BASELINE]
    tasks = {
        PRETRAIN: list(dict.fromkeys(task.name for each in columns for task in suite.select(each))),
        FINETUNE: list(settings.targets),
    }
    found: dict[str, dict[str, TaskData]] = {}
    for kind, names in tasks.items():
        caps = {**shared, **(settings.pretrain if kind == PRETRAIN else settings.finetune)}
        chosen = {key: caps[key] for key in ("max_length", "max_rows_per_task") if key in caps}
        config = replace(workspace.config, **chosen)
        jobs = [(suite.tasks[name], formats[suite.tasks[name].format]) for name in names]
        builder = replace(workspace, config=config).builder(limit)
        with BuildDisplay(console, len(jobs)) as reading:
            built = build_all(builder, jobs, [TRAIN, VALID], reading.tell)
        found[kind] = {each.task.name: each for each in built}
    return found


def target_of(data: TaskData, info: Mapping[str, Any]) -> Target:
    """A target as the tables see it, with what can be had without a model."""
    train, valid = data.stores[TRAIN], data.stores[VALID]
    references = [valid.reference(number) for number in range(len(valid))]
    targets = [np.asarray(train.target(number)) for number in range(len(train))]
    scores = data.format.baselines(data.task, targets, references)
    metric = data.task.metric or data.format.headline
    return Target(
        name=data.task.name,
        group=data.task.format,
        metric=metric,
        train=int(train.meta["rows"]),
        valid=int(valid.meta["rows"]),
        chance=scores.get("chance", {}).get(metric),
        majority=scores.get("majority", {}).get(metric),
        note=str(info.get("part", "")),
    )


def agree(study: Study) -> None:
    """Refuse to mix two studies in one folder: the same suite, encoder and precision.

    Raises:
        MtlplugError: the folder holds a study of others.
    """
    there = study.ledger.study()
    if there is None:
        return
    for key in ("suite", "model", "precision"):
        old, new = there["options"].get(key), study.plan.options.get(key)
        if old != new:
            raise MtlplugError(
                f"{study.ledger.folder} holds a study with another {key} ({old!r} there, {new!r} "
                "now); choose another folder with --output"
            )
