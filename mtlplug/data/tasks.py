"""From a task's table in a suite file to a `Task`, with everything in it checked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mtlplug.data.fetching import download_name, downloads_folder
from mtlplug.data.paths import local_path
from mtlplug.data.sources import Source
from mtlplug.data.tables import Types, check_name, check_table
from mtlplug.errors import MtlplugError, did_you_mean, unknown
from mtlplug.formats import Task, TaskFormat

ROLES = ("pretrain", "target", "extra")
SPLITS = ("train", "valid", "test")
NUMBER = (int, float)
TEXT = (str,)

SHARED_KEYS: Types = {
    "reader": TEXT, "columns": (dict,), "header": (bool,), "quoting": TEXT, "encoding": TEXT,
    "separator": TEXT, "comment": TEXT, "dataset": TEXT, "revision": TEXT, "data_dir": TEXT,
    "config": TEXT, "only": (dict,),
}  # fmt: skip
SPLIT_KEYS: Types = {
    **SHARED_KEYS, "path": TEXT, "split": TEXT, "part": TEXT, "url": TEXT, "sha256": TEXT,
}  # fmt: skip
TASK_KEYS: Types = {
    **SHARED_KEYS, "format": TEXT, "role": TEXT, "labels": (list,), "metric": TEXT,
    "weight": NUMBER, "options": (dict,), "info": (dict,), "splits": (dict,),
    **dict.fromkeys(SPLITS, (str, dict)),
}  # fmt: skip
HUB_KEYS = ("dataset", "revision", "data_dir", "config")


def task_from_table(
    name: str,
    table: dict[str, Any],
    formats: Mapping[str, TaskFormat],
    base: Path,
    where: str,
    downloads: Path | None = None,
) -> Task:
    """The task that a table `[tasks.NAME]` describes (see `mtlplug.data.suites`).

    Args:
        name: of the task.
        table: what the file says.
        formats: the installed formats by code.
        base: folder that relative paths start from.
        where: file and task, for messages.
        downloads: folder of files that were fetched from a url; the usual one where None.

    Raises:
        MtlplugError: a key, column, option or format is unknown, or a value is wrong.
    """
    check_table(table, TASK_KEYS, where)
    code, role, weight = table.get("format"), table.get("role", ROLES[0]), table.get("weight", 1.0)
    if code is None:
        raise MtlplugError(f'{where} has no format; add format = "CODE" of an installed one')
    if code not in formats:
        raise MtlplugError(
            f"{where}: no task format '{code}' is installed{did_you_mean(code, formats)}; "
            f"installed: {', '.join(sorted(formats)) or 'none'}"
        )
    if role not in ROLES:
        raise MtlplugError(f"{where}: {unknown('role', role, ROLES)}")
    if not 0 < weight < math.inf:
        raise MtlplugError(f"{where}: weight is {weight}; it must be above 0")
    labels = table.get("labels", [])
    if not all(isinstance(label, str) for label in labels) or len(set(labels)) < len(labels):
        raise MtlplugError(f"{where}: labels must be different strings")
    return Task(
        name=name,
        format=code,
        sources=dict(_sources(table, formats[code], base, downloads or downloads_folder(), where)),
        labels=tuple(labels),
        options=_options(table.get("options", {}), formats[code], where),
        metric=table.get("metric"),
        role=role,
        weight=float(weight),
        chooses=formats[code].chooses,
    )


def _sources(
    table: Mapping[str, Any], task_format: TaskFormat, base: Path, downloads: Path, where: str
) -> Iterator[tuple[str, Source]]:
    """The splits of a task: train, valid and test first."""
    shared = {key: value for key, value in table.items() if key in SHARED_KEYS}
    splits = {split: table[split] for split in SPLITS if split in table}
    others = table.get("splits", {})
    if double := splits.keys() & others.keys():
        raise MtlplugError(f"{where} gives split '{min(double)}' twice; remove one")
    splits |= others
    if not splits:
        raise MtlplugError(f'{where} has no split; add train = "PATH" and valid = "PATH"')
    for split, value in splits.items():
        check_name("split", split, where)
        check_table({split: value}, {split: (str, dict)}, where)
        own = {"path": value} if isinstance(value, str) else value
        place = f"{where}, split '{split}'"
        check_table(own, SPLIT_KEYS, place)
        settings = {**shared, **own}
        if "path" in own or "url" in own:
            settings = {key: v for key, v in shared.items() if key not in HUB_KEYS} | own
            settings["path"] = _file(own, base, downloads, place)
        _check_columns(settings.get("columns", {}), task_format, place)
        try:
            yield split, Source(**settings)
        except MtlplugError as error:
            raise MtlplugError(f"{place}: {error}") from None


def _file(own: Mapping[str, Any], base: Path, downloads: Path, where: str) -> Path:
    """The local file of a split: below the data folder, or where its url is downloaded to."""
    if "path" in own and "url" in own:
        raise MtlplugError(f"{where} has a path and a url; remove one")
    if "path" not in own:
        try:
            return downloads / download_name(own["url"])
        except ValueError as error:
            raise MtlplugError(f"{where}: url {own['url']!r} is none ({error}); mend it") from None
    return base / local_path(own["path"], where)


def _check_columns(columns: Mapping[str, Any], task_format: TaskFormat, where: str) -> None:
    if task_format.columns:
        types = dict.fromkeys(task_format.columns, (str, int, list))
        check_table(columns, types, f"{where}, columns of format {task_format.code}")
    for name, value in columns.items():
        several = value if isinstance(value, list) else [value]
        if not several or not all(type(column) in (str, int) for column in several):
            raise MtlplugError(
                f"{where}: column {name} is {value!r}; it should be the name or number of the "
                "file's column, or a list of them"
            )


def _options(given: Mapping[str, Any], task_format: TaskFormat, where: str) -> dict[str, Any]:
    """The format's options with this task's values, plus `max_length` where it is given."""
    types: dict[str, tuple[type, ...]] = {"max_length": (int,)}
    for name, default in task_format.options.items():
        kinds = {float: NUMBER, tuple: (list,), type(None): (str, int, float, bool, list)}
        types[name] = kinds.get(type(default), (type(default),))
    place = f"{where}, options of format {task_format.code}"
    check_table(given, types, place)
    for name, value in given.items():
        if value != value:
            raise MtlplugError(f"{place}: {name} is nan, which is no number; mend it")
    return {**task_format.options, **given}
