"""From the options of a command to the plan of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from mtlplug.data.build import TRAIN, VALID, TaskData
from mtlplug.data.parallel import build_all
from mtlplug.errors import MtlplugError
from mtlplug.model.encoder import Encoder
from mtlplug.model.flops import encoder_flops
from mtlplug.study.ledger import Ledger
from mtlplug.study.overview import Overview
from mtlplug.study.plan import Plan
from mtlplug.study.results import BASELINE, Target
from mtlplug.study.settings import FINETUNE, PRETRAIN, Settings, settings_of
from mtlplug.training.deepspeed_config import default_precision
from mtlplug.training.display import BuildDisplay
from mtlplug.workspace import Workspace, open_workspace

SHARED = ("max_length", "max_rows_per_task", "max_tokens", "batch_size", "gradient_checkpointing")
"""Options of the command that all runs of the study share, where given."""

LIMITS = ("max_length", "max_rows_per_task")
"""Options of a run that decide what features are made."""


@dataclass(frozen=True)
class Study:
    """A study, planned, and its folder."""

    plan: Plan
    ledger: Ledger
    overview: Overview
    encoder: Encoder

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The targets as the tables see them; scoring their baselines takes a while."""
        data, info = self.plan.data[FINETUNE], self.plan.workspace.suite.info
        return tuple(target_of(data[name], info.get(name, {})) for name in data)

    def as_dict(self) -> dict[str, Any]:
        """What `study.json` holds."""
        plan = self.plan
        return {
            "settings": plan.settings.as_dict(),
            "options": dict(plan.options),
            "threads": plan.threads,
            "suite": plan.workspace.suite.name,
            "title": plan.workspace.suite.title,
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
    data = features_of(workspace, settings, encoder.max_length, console)
    plan = Plan(
        settings=settings,
        options=shared,
        workspace=workspace,
        data=data,
        pair_cost=encoder_flops(encoder).pair_cost,
        threads=int(given.get("threads") or 1),
    )
    return Study(plan, ledger, Overview(plan, ledger), encoder)


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


def features_of(
    workspace: Workspace, settings: Settings, limit: int, console: Console
) -> dict[str, dict[str, TaskData]]:
    """The stored features of everything the study trains on, made where they are missing.

    By role ("pretrain", "finetune") and task, with the limits of the runs in that role.

    Args:
        workspace: plugins, suite, options.
        settings: what is run.
        limit: the longest sequence the encoder takes.
        console: shows the reading.

    Raises:
        MtlplugError: rows cannot be read or used.
    """
    suite, formats = workspace.suite, workspace.plugins.formats
    columns = [each for each in settings.columns if each != BASELINE]
    tasks = {
        PRETRAIN: list(dict.fromkeys(task.name for each in columns for task in suite.select(each))),
        FINETUNE: list(settings.targets),
    }
    found: dict[str, dict[str, TaskData]] = {}
    for kind, names in tasks.items():
        options = settings.pretrain if kind == PRETRAIN else settings.finetune
        limits = {key: options[key] for key in LIMITS if key in options}
        builder = replace(workspace, config=replace(workspace.config, **limits)).builder(limit)
        jobs = [(suite.tasks[name], formats[suite.tasks[name].format]) for name in names]
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
