"""What the shell completes: names of suites, tasks and groups, without loading anything heavy."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from mtlplug.demo.suite import SUITE

DEMO = "demo"


def complete_suites(ctx: click.Context, param: Any, incomplete: str) -> list[CompletionItem]:
    """Names of the suites that come with mtlplug, and TOML files."""
    names = [DEMO, *sorted(each.name.removesuffix(".toml") for each in _builtin())]
    found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return [*found, CompletionItem(incomplete, type="file")]


def complete_groups(ctx: click.Context, param: Any, incomplete: str) -> list[CompletionItem]:
    """Groups and tasks of the suite named on the line, after each `+` or comma."""
    start = max(incomplete.rfind("+"), incomplete.rfind(",")) + 1
    table = _suite(ctx)
    tasks = table.get("tasks", {})
    codes = dict.fromkeys(str(task.get("format")) for task in tasks.values())
    return _items(
        [*codes, *table.get("groups", {}), *tasks], incomplete[:start], incomplete[start:]
    )


def complete_tasks(ctx: click.Context, param: Any, incomplete: str) -> list[CompletionItem]:
    """Tasks of the suite named on the line."""
    return _items(_suite(ctx).get("tasks", {}), "", incomplete)


def _items(names: Iterable[str], before: str, start: str) -> list[CompletionItem]:
    return [CompletionItem(before + name) for name in names if name.startswith(start)]


def _builtin() -> list[Any]:
    return [each for each in files("mtlplug.suites").iterdir() if each.name.endswith(".toml")]


def _suite(ctx: click.Context) -> dict[str, Any]:
    """The tables of the suite on the line, laid over those it extends; empty where unreadable."""
    with suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
        return _tables(str(ctx.params.get("suite") or DEMO), Path())
    return {}


def _tables(name: str, beside: Path) -> dict[str, Any]:
    if name == DEMO:
        return tomllib.loads(SUITE)
    for each in _builtin():
        if each.name == f"{name}.toml":
            return tomllib.loads(each.read_text(encoding="utf-8"))
    path = beside / Path(name).expanduser()
    table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    below = _tables(table["extends"], path.parent) if "extends" in table else {}
    for key in ("tasks", "groups"):
        table[key] = {**below.get(key, {}), **table.get(key, {})}
    return table
