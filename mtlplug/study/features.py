"""The stored features of everything a study trains on, made where they are missing."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from mtlplug.data.build import TRAIN, VALID, TaskData
from mtlplug.data.parallel import build_all
from mtlplug.study.results import BASELINE
from mtlplug.study.settings import FINETUNE, PRETRAIN, Settings
from mtlplug.training.progress import BuildDisplay
from mtlplug.workspace import Workspace

LIMITS = ("max_length", "max_rows_per_task")
"""Options of a run that decide what features are made."""


def features_of(
    workspace: Workspace, settings: Settings, limit: int, console: Console
) -> dict[str, dict[str, TaskData]]:
    """By role ("pretrain", "finetune") and task, with the limits of the runs in that role.

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
