"""What `mtlplug tasks`, `mtlplug inspect` and `mtlplug plugins` print."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.markup import escape

from mtlplug.data.build import Builder, TaskData
from mtlplug.errors import MtlplugError, unknown
from mtlplug.formats import Feature, Task, TaskFormat
from mtlplug.pages.table import Table, row_of
from mtlplug.pages.typesetting import new_console, print_table
from mtlplug.pages.wording import counted, notes, places
from mtlplug.plugin_manager import load_plugins
from mtlplug.workspace import open_workspace

TASK_COLUMNS = (
    "task", "format", "role", "labels", "train\nrows", "valid\nrows", "features", "median\ntokens",
    "99\u00a0%", "other\nsplits", "found, cut, dropped, repaired",
)  # fmt: skip


def list_tasks(groups: str | None, options: Mapping[str, Any]) -> None:
    """Print the tasks of a suite: rows of each split, labels, lengths in tokens, repairs.

    Raises:
        MtlplugError: a task cannot be loaded.
    """
    workspace = open_workspace(options)
    suite, builder = workspace.suite, workspace.builder()
    tasks = suite.select(groups) if groups else list(suite.tasks.values())
    rows = []
    console = new_console()
    with console.status("reading tasks") as status:
        for task in tasks:
            status.update(f"reading {task.name}")
            task_format = workspace.plugins.formats[task.format]
            rows.append(row_of(*_row(builder.build(task, task_format, list(task.sources)))))
    title = f"suite {suite.name}: {suite.title}"
    print_table(console, Table("tasks", title, TASK_COLUMNS, tuple(rows), words=3, remarks=2))
    for name, members in suite.groups.items():
        console.print(f"group {name}: {', '.join(members)}", highlight=False)


def _row(data: TaskData) -> list[str]:
    rows = {split: f"{store.meta['rows']:,}" for split, store in data.stores.items()}
    store = data.stores.get("train", next(iter(data.stores.values())))
    counts: Counter[str] = Counter()
    for each in data.stores.values():
        counts.update(each.meta["counts"])
    return [
        data.task.name,
        data.task.format,
        data.task.role,
        str(len(data.task.labels) or "-"),
        rows.pop("train", "-"),
        rows.pop("valid", "-"),
        f"{len(store):,}",
        f"{np.median(store.lengths_N):.0f}",
        f"{np.percentile(store.lengths_N, 99):.0f}",
        ", ".join(f"{split} {number}" for split, number in rows.items()) or "-",
        notes(data.task.facts, counts),
    ]


def inspect_task(name: str, split: str, number: int, options: Mapping[str, Any]) -> None:
    """Print rows of a task as the model sees them: tokens, reads and targets.

    Raises:
        MtlplugError: the suite has no such task, or the task no such split.
    """
    if number < 1:
        raise MtlplugError(f"--number is {number}; it must be 1 or more")
    workspace = open_workspace(options)
    if name not in workspace.suite.tasks:
        raise unknown("task", name, workspace.suite.tasks)
    task = workspace.suite.tasks[name]
    task_format = workspace.plugins.formats[task.format]
    if split not in task.sources:
        raise MtlplugError(
            f"task '{name}' has no split '{split}'; it has: {', '.join(task.sources)}"
        )
    show_rows(new_console(), workspace.builder(), task, task_format, split, number)


def show_rows(
    console: Console,
    builder: Builder,
    task: Task,
    task_format: TaskFormat,
    split: str,
    number: int,
) -> None:
    """Print the first rows of a split, each with the features that are made of it."""
    task = builder.prepared(task, task_format)
    for row in islice(task.sources[split].rows(), number):
        console.rule(escape(row.where), align="left")
        for key, value in row.items():
            console.print(f"[bold]{key}[/bold]  {escape(_short(value))}", highlight=False)
        encode = builder.encode(task)
        for index, feature in enumerate(task_format.features(task, [row], encode)):
            console.print(f"[bold]feature {index + 1}[/bold]", highlight=False)
            _print_feature(console, task, feature)
        if encode.counts:
            console.print(f"counted: {counted(encode.counts)}", highlight=False)


def _print_feature(console: Console, task: Task, feature: Feature) -> None:
    """Tokens with what is read marked, then the target."""
    tokens = [token for sequence in feature.sequences for token in sequence.tokens]
    reads = np.asarray(feature.reads).tolist()
    is_read = set(reads)
    marked = " ".join(
        f"[reverse]{escape(token)}[/reverse]" if place in is_read else f"[dim]{escape(token)}[/dim]"
        for place, token in enumerate(tokens)
    )
    target = np.asarray(feature.target)
    named = ""
    if task.labels and target.dtype.kind == "i":
        names = [task.labels[i] if 0 <= i < len(task.labels) else "-" for i in target.tolist()]
        named = f" = {escape(' '.join(names))}"
    console.print(f"  tokens ({len(tokens)})  {marked}", highlight=False)
    console.print(f"  reads  ({len(reads)})  {places(reads)}", highlight=False)
    console.print(f"  target  {target.tolist()}{named}", highlight=False)


def _short(value: Any, most: int = 600) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[:most]} ... ({len(text):,} characters)"


def list_plugins(*, as_json: bool = False) -> None:
    """Print the plugins, the formats they bring, their hooks, and what is wrong with the broken."""
    found = load_plugins()
    if as_json:
        plugins = [dataclasses.asdict(each) | {"status": each.status} for each in found.plugins]
        click.echo(json.dumps(plugins, ensure_ascii=False, indent=1))
        return
    rows = []
    for plugin in found.plugins:
        formats = [f"{code} ({found.formats[code].title})" for code in plugin.formats]
        hooks = [hook.removeprefix("mtlplug_") for hook in plugin.hooks]
        values = (plugin.name, plugin.distribution, plugin.version)
        lists = (", ".join(each) or "-" for each in (formats, hooks))
        rows.append(row_of(*values, *lists, plugin.status))
    header = ("plugin", "distribution", "version", "formats", "hooks", "status")
    print_table(new_console(), Table("plugins", "plugins", header, tuple(rows), remarks=5))
