"""One suite laid over another: `extends = "NAME"` in a suite file.

Tables of tasks, groups, defaults and study are merged key by key; the extending file has the last
word. A task that names a split or a dataset anew gets none of the old splits, nor the settings of
how to read them: `reader`, `columns` and the like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mtlplug.data.tables import Types, check_table
from mtlplug.data.tasks import SHARED_KEYS, SPLITS
from mtlplug.errors import MtlplugError, did_you_mean

SUITE_KEYS: Types = {
    "name": (str,), "title": (str,), "extends": (str,), "drop": (list,), "defaults": (dict,),
    "groups": (dict,), "tasks": (dict,), "study": (dict,),
}  # fmt: skip
MERGED = ("defaults", "groups", "study")
SPLIT_TABLES = (*SPLITS, "splits")
INNER_TABLES = ("info", "options")
"""Tables of a task that are themselves merged key by key."""

Find = Callable[[str, Path], Path]
"""The file of the suite that a file names: name, and the file that names it."""


Parse = Callable[[Path, str], dict[str, Any]]
"""Reads the file of a suite; it is told the name by which another suite extends it, or ""."""


def layered(path: Path, parse: Parse, find: Find) -> dict[str, Any]:
    """What a suite file says, laid over the suites it extends.

    Args:
        path: of the file.
        parse: reads a file.
        find: finds the file of the suite that a file names.

    Raises:
        MtlplugError: a file has unknown keys, extends itself, or drops a task that is not there.
    """
    return _layered(path, "", parse, find, ())


def _layered(
    path: Path, name: str, parse: Parse, find: Find, above: tuple[Path, ...]
) -> dict[str, Any]:
    if path in above:
        chain = " -> ".join(str(each) for each in (*above, path))
        raise MtlplugError(f"suite {path} extends itself: {chain}; remove one 'extends'")
    table = parse(path, name)
    check_table(table, SUITE_KEYS, str(path))
    for key, task in table.get("tasks", {}).items():
        check_table({key: task}, {key: (dict,)}, str(path))
    extended = table.get("extends")
    if extended is None:
        if "drop" in table:
            raise MtlplugError(f"{path} drops tasks but extends no suite; remove 'drop'")
        return table
    base = _layered(find(extended, path), extended, parse, find, (*above, path))
    base = _without(base, table.get("drop", []), str(path))
    tasks = dict(base.get("tasks", {}))
    for key, task in table.get("tasks", {}).items():
        tasks[key] = lay_over(tasks.get(key, {}), task)
    merged: dict[str, Any] = {"title": base.get("title", ""), **table, "tasks": tasks}
    for part in MERGED:
        merged[part] = {**base.get(part, {}), **table.get(part, {})}
    return merged


def lay_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The table of a task, laid over another one of it."""
    anew = any(key in above for key in (*SPLIT_TABLES, "dataset"))
    replaced = {*SPLIT_TABLES, *SHARED_KEYS} if anew else set()
    kept = {key: value for key, value in below.items() if key not in replaced}
    inner = {
        key: {**kept[key], **above[key]}
        for key in INNER_TABLES
        if isinstance(kept.get(key), dict) and isinstance(above.get(key), dict)
    }
    return {**kept, **above, **inner}


def _without(table: Mapping[str, Any], drop: list[Any], where: str) -> dict[str, Any]:
    """A suite's table without some tasks: in groups too, and without groups left empty."""
    tasks: dict[str, Any] = table.get("tasks", {})
    gone: set[str] = set()
    for pattern in drop:
        matching = {task for task in tasks if fnmatchcase(task, str(pattern))}
        if not matching:
            raise MtlplugError(
                f"{where} drops '{pattern}', which is no task of the extended suite"
                f"{did_you_mean(str(pattern), tasks)}; tasks: {', '.join(tasks)}"
            )
        gone |= matching
    left = {name: task for name, task in tasks.items() if name not in gone}
    return {**table, "tasks": left, "groups": _groups(table.get("groups", {}), left, gone)}


def _groups(groups: Mapping[str, Any], left: Mapping[str, Any], gone: set[str]) -> dict[str, Any]:
    """The groups without members that stood for dropped tasks, or for groups so emptied, only."""
    kept: dict[str, Any] = {}
    for name, members in groups.items():
        if not isinstance(members, list):  # what loads the suite says what is wrong
            kept[name] = members
        elif slim := [m for m in members if not _emptied(str(m), left, gone)]:
            kept[name] = slim
    emptied = set(groups) - set(kept)
    return _groups(kept, left, gone | emptied) if emptied else kept


def _emptied(member: str, left: Mapping[str, Any], gone: set[str]) -> bool:
    stood = any(fnmatchcase(name, member) for name in gone)
    return stood and not any(fnmatchcase(name, member) for name in left)
