"""Suites: TOML files of tasks, groups and defaults. `docs/suites.md` has every key of theirs.

A split is a path, or a table with the settings of `mtlplug.data.sources.Source`; every setting
but `path`, `url`, `sha256`, `split` and `part` may also stand at the task and is then for all its
splits. A file with `extends = "NAME_OR_TOML"` is laid over that suite (`mtlplug.data.layers`), and
`drop = ["TASK"]` leaves tasks of that suite out. Paths start from --data, else from the file that
was named, also those of the extended suite; only `demo` brings its own data, wherever it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import mtlplug.suites
from mtlplug.data.layers import lay_over, layered
from mtlplug.data.paths import local_path
from mtlplug.data.tables import check_name, check_table, parse_toml
from mtlplug.data.tasks import ROLES, SPLITS, task_from_table
from mtlplug.errors import MtlplugError, did_you_mean, unknown
from mtlplug.formats import Task, TaskFormat
from mtlplug.plugin_registry import Registry

ALL = "all"
"""Names every combination of groups where several may be named."""

DEMO = "demo"


@dataclass(frozen=True)
class Suite:
    """Tasks, named sets of them, and defaults of runs.

    Attributes:
        name: short name.
        title: for people.
        tasks: by name, in the order of the file.
        groups: names of tasks by group: one group per installed format, of its pretrain tasks,
            and those of the file.
        defaults: of command-line options, with underscores.
        info: what the file says about each task for people.
        study: settings of `mtlplug study` (`mtlplug.study.settings`).
        path: the file.
        data: folder that its relative paths start from, where it is not the file's.
    """

    name: str
    title: str
    tasks: Mapping[str, Task]
    groups: Mapping[str, tuple[str, ...]]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    info: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    study: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    data: Path | None = None

    def select(self, expression: str) -> list[Task]:
        """The tasks of an expression such as `SL+C`, each once, in the suite's order.

        Terms are groups or single tasks.

        Raises:
            MtlplugError: a term is missing or unknown, or is a group without tasks.
        """
        chosen: set[str] = set()
        for term in (part.strip() for part in expression.split("+")):
            if not term:
                raise MtlplugError(
                    f"'{expression}' lacks a group; write groups or tasks joined by '+', "
                    "for example SL+C"
                )
            names = (term,) if term in self.tasks else self.groups.get(term)
            if names is None:
                groups = ", ".join(sorted(group for group, names in self.groups.items() if names))
                raise MtlplugError(
                    f"unknown group '{term}' in '{expression}'"
                    f"{did_you_mean(term, [*self.groups, *self.tasks])}; suite '{self.name}' has "
                    f"the groups {groups or '(none)'}, and single tasks may be named; "
                    "'+' joins them"
                )
            if not names:
                raise MtlplugError(
                    f"group '{term}' of suite '{self.name}' has no task of role pretrain; name "
                    "tasks one by one, or choose another suite with --suite"
                )
            chosen.update(names)
        return [task for name, task in self.tasks.items() if name in chosen]

    def combinations(self, expressions: str) -> list[str]:
        """Expressions separated by commas; `all` is every combination of the formats.

        Of those with the same groups the first alone, without blanks.

        The small ones first, in the order of the suite's tasks, so that tables read as its author
        thinks.
        """
        if expressions.strip() != ALL:
            found: dict[frozenset[str], str] = {}
            for expression in expressions.split(","):
                parts = [part.strip() for part in expression.split("+")]
                found.setdefault(frozenset(parts), "+".join(parts))
            return [*found.values()]
        codes = dict.fromkeys(task.format for task in self.tasks.values())
        present = [code for code in codes if self.groups[code]]
        sizes = range(1, len(present) + 1)
        return ["+".join(chosen) for size in sizes for chosen in combinations(present, size)]


def known_suites() -> list[str]:
    """Names of the suites that come with mtlplug as files (`demo` is made when asked for)."""
    return sorted(path.stem for path in _builtin().glob("*.toml"))


def load_suite(
    name_or_path: str,
    formats: Mapping[str, TaskFormat],
    data_dir: Path | None = None,
    downloads: Path | None = None,
    registry: Registry | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Suite:
    """Load a suite: `demo`, one that comes with mtlplug or a plugin, or any TOML file.

    Args:
        name_or_path: name of a suite, or path of a file.
        formats: the installed formats by code.
        data_dir: folder that relative paths start from; the file's own where None. The demo
            suite brings its own data.
        downloads: folder of files that were fetched from a url; the usual one where None.
        registry: what plugins bring.
        changes: tables laid over those of tasks, by name.

    Raises:
        MtlplugError: there is no such suite, or it says something that is unknown or wrong.
    """
    ours = dict.fromkeys([DEMO, *known_suites()])
    brought = registry.of("suite", ours) if registry else {}
    find = partial(_find, plugins={name: Path(brought[name]) for name in brought.keys() - ours})
    path = find(name_or_path)
    table = layered(path, _parsed, partial(_extended, find=find))
    base = path.parent if data_dir is None or name_or_path == DEMO else data_dir.expanduser()
    if not base.is_dir():
        raise MtlplugError(f"data folder {base} does not exist; give another with --data")
    tables: dict[str, Any] = _changed(table.get("tasks", {}), changes or {})
    if not tables:
        raise MtlplugError(f"{path} has no tasks; add a table [tasks.NAME]")
    tasks: dict[str, Task] = {}
    for task, values in tables.items():
        check_name("task", task, str(path))
        where = f"{path}: task '{task}'"
        if changes and task in changes:
            where += ", as changed by --set or --config"
        tasks[task] = task_from_table(task, values, formats, base, where, downloads)
    name = table.get("name", path.stem)
    check_name("suite", name, str(path))
    return Suite(
        name=name,
        title=table.get("title", ""),
        tasks=tasks,
        groups=_groups(table.get("groups", {}), tasks, formats, str(path)),
        defaults={key.replace("-", "_"): v for key, v in table.get("defaults", {}).items()},
        info={task: values.get("info", {}) for task, values in tables.items()},
        study=table.get("study", {}),
        path=path,
        data=data_dir,
    )


def _changed(tables: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of tasks with others laid over some of them."""
    for task, change in changes.items():
        if task not in tables:
            raise MtlplugError(f"--set or --config, tasks: {unknown('task', task, tables)}")
        check_table({task: change}, {task: (dict,)}, "--set or --config, tasks")
    return {
        task: lay_over(table, changes[task]) if task in changes else table
        for task, table in tables.items()
    }


def _builtin() -> Path:
    return Path(mtlplug.suites.__path__[0])


def is_demo(suite: Suite) -> bool:
    """Whether a suite is the built-in demo, not another one of its name."""
    return suite.name == DEMO and suite.path == _find(DEMO, {})


def _find(name: str, plugins: Mapping[str, Path]) -> Path:
    if name == DEMO:
        from mtlplug.demo.generate import demo_suite_path

        return demo_suite_path()
    if name in known_suites():
        return _builtin() / f"{name}.toml"
    if name in plugins:
        return plugins[name]
    path = local_path(name, "suite")
    if path.is_file():
        return path
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise MtlplugError(f"suite file {path} does not exist; give a TOML file with --suite")
    raise MtlplugError(
        f"{unknown('suite', name, [DEMO, *known_suites(), *plugins])}, or a TOML file"
    )


def _extended(name: str, path: Path, find: Callable[[str], Path]) -> Path:
    """The file of the suite that `path` extends; relative paths start from the latter's folder."""
    if name == DEMO:
        return find(name)
    beside = path.parent / local_path(name, f"{path}: extends")
    return beside if name not in known_suites() and beside.is_file() else find(name)


def _parsed(path: Path, name: str) -> dict[str, Any]:
    """What a file says, and the demo's with its own places: it brings its data and encoder."""
    table = parse_toml(path)
    if name != DEMO:
        return table
    tasks = {
        task: {k: str(path.parent / v) if k in SPLITS else v for k, v in values.items()}
        for task, values in table["tasks"].items()
    }
    defaults = {**table["defaults"], "model": str(path.parent / table["defaults"]["model"])}
    return {**table, "tasks": tasks, "defaults": defaults}


def _groups(
    table: Mapping[str, Any],
    tasks: Mapping[str, Task],
    formats: Mapping[str, TaskFormat],
    where: str,
) -> dict[str, tuple[str, ...]]:
    """The groups of formats and those of the file, as names of tasks in the suite's order."""
    groups: dict[str, tuple[str, ...]] = {
        code: tuple(t.name for t in tasks.values() if t.format == code and t.role == ROLES[0])
        for code in formats
    }
    for name in [*table, *formats]:
        check_name("group", name, where)
        if name in tasks or (name in table and name in formats):
            owner = "a task" if name in tasks else "the group of a task format"
            raise MtlplugError(f"{where}: group '{name}' has the name of {owner}; rename it")
    for name in table:
        members = set(_members(name, table, groups, tasks, f"{where}: group '{name}'", ()))
        groups[name] = tuple(task for task in tasks if task in members)
    return groups


def _members(
    name: str,
    table: Mapping[str, Any],
    groups: Mapping[str, tuple[str, ...]],
    tasks: Mapping[str, Task],
    where: str,
    inside: tuple[str, ...],
) -> Iterator[str]:
    """Names of the tasks a group of the file holds, groups inside it followed."""
    if name in inside:
        raise MtlplugError(f"{where} holds itself: {' -> '.join([*inside, name])}")
    members = table[name]
    if not isinstance(members, list) or not members or not all(type(m) is str for m in members):
        raise MtlplugError(f"{where} must be a list of names; group '{name}' is {members!r:.60}")
    for member in members:
        matching = [task for task in tasks if fnmatchcase(task, member)]
        if member in table:
            yield from _members(member, table, groups, tasks, where, (*inside, name))
        elif member in groups or matching:
            yield from groups.get(member, matching)
        else:
            known = [*tasks, *groups, *table]
            raise MtlplugError(
                f"{where} names '{member}', which is no task, group or pattern of one"
                f"{did_you_mean(member, known)}; tasks: {', '.join(tasks)}"
            )
