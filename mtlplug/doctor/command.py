"""`mtlplug doctor`: all checks in order, shown as they are done."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from mtlplug.data.build import TRAIN, TaskData
from mtlplug.doctor.checks import BAD, Check, as_json, note, show, summary
from mtlplug.doctor.gradient import STAGES, gradient_checks
from mtlplug.doctor.machine import machine_checks, plugin_checks
from mtlplug.doctor.road import model_checks
from mtlplug.errors import MtlplugError, unknown
from mtlplug.formats import Task
from mtlplug.model.encoder import Encoder
from mtlplug.pages.typesetting import new_console
from mtlplug.workspace import Workspace, open_workspace

RANKS, MOST_RANKS = 2, 16

PER_FORMAT = 2
"""Tasks of each format that the gradient is checked on: heads of equal shape are what ZeRO
mistakes for each other."""

ROWS = 200
"""Rows of each task read for it, where the user does not say."""


def examine(
    options: Mapping[str, Any],
    zero: str | None = None,
    ranks: int | None = None,
    groups: str | None = None,
    json_output: bool = False,
) -> bool:
    """Run all checks and print them; returns whether none is bad.

    Args:
        options: suite, data, model and cache, as every command takes them.
        zero: ZeRO stages to check the distributed gradient under, for example "0,1,2,3".
        ranks: processes of that check.
        groups: tasks of that check; None for some of every installed format.
        json_output: print one JSON object in the end instead of lines on the way.

    Raises:
        MtlplugError: an option is wrong, or the suite or the model cannot be opened.
    """
    stages, ranks = _stages(zero), _checked_ranks(ranks, groups, zero)
    workspace = open_workspace(options)
    tasks = workspace.suite.select(groups) if groups else _some_tasks(workspace)
    console = new_console(quiet=json_output)
    checks = []
    with console.status("opening the model") as status:
        encoder = Encoder.from_pretrained(workspace.config.model, road="padded")
        for check in _all_checks(workspace, encoder, tasks, stages, ranks):
            checks.append(check)
            show(console, check)
            status.update(f"checked {check.name}")
    console.print(summary(checks), highlight=False)
    if json_output:
        click.echo(as_json(checks))
    return all(check.status != BAD for check in checks)


def _all_checks(
    workspace: Workspace,
    encoder: Encoder,
    tasks: Sequence[Task],
    stages: Sequence[str],
    ranks: int,
) -> Iterator[Check]:
    """The machine, the plugins, the model, and the gradient where it is asked for."""
    config = copy.deepcopy(encoder.model.config)
    yield from machine_checks(workspace.config.cache)
    yield from plugin_checks(workspace.plugins)
    yield from model_checks(workspace.config.model, encoder)
    if stages:
        yield from _untested(workspace, tasks)
        weighting = workspace.config.weighting
        yield from gradient_checks(_data(workspace, tasks), config, stages, ranks, weighting)


def _stages(zero: str | None) -> list[str]:
    """The stages of a list such as "0,1,2,3", each once."""
    stages = [stage.strip() for stage in zero.split(",")] if zero is not None else []
    for stage in stages:
        if stage not in STAGES:
            raise unknown("ZeRO stage", stage, STAGES)
    return list(dict.fromkeys(stages))


def _checked_ranks(ranks: int | None, groups: str | None, zero: str | None) -> int:
    """The number of ranks; what only the gradient's check uses is refused without it."""
    for option, value in (("ranks", ranks), ("groups", groups)):
        if value is not None and zero is None:
            raise MtlplugError(
                f"--{option} {value} says how the distributed gradient is checked; "
                "add --zero 0,1,2,3 to check it"
            )
    if ranks is not None and not 1 <= ranks <= MOST_RANKS:
        raise MtlplugError(f"--ranks is {ranks}; it must be 1 to {MOST_RANKS}")
    return RANKS if ranks is None else ranks


def _some_tasks(workspace: Workspace) -> list[Task]:
    """The first tasks of each installed format that have training rows."""
    chosen: list[Task] = []
    for code in workspace.plugins.formats:
        mine = [
            task
            for task in workspace.suite.tasks.values()
            if task.format == code and TRAIN in task.sources
        ]
        chosen += mine[:PER_FORMAT]
    return chosen


def _untested(workspace: Workspace, tasks: Sequence[Task]) -> Iterator[Check]:
    """Formats that no task of the check is of."""
    missing = sorted(set(workspace.plugins.formats) - {task.format for task in tasks})
    if missing:
        found = f"no task here is of the format {', '.join(missing)}"
        yield note("formats", found, "give a suite that has one with --suite")


def _data(workspace: Workspace, tasks: Sequence[Task]) -> list[TaskData]:
    """The stored training features of the tasks, of a sample of their rows."""
    rows = workspace.config.max_rows_per_task or ROWS
    config = dataclasses.replace(workspace.config, max_rows_per_task=rows)
    builder = dataclasses.replace(workspace, config=config).builder()
    formats = workspace.plugins.formats
    return [builder.build(task, formats[task.format], [TRAIN]) for task in tasks]
