"""What a helper process is told, as JSON: nothing in it can run.

Tasks and their sources as they are in a suite, formats by the name of their class, the tokenizer
as the text of its Rust part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tokenizers import Tokenizer

from mtlplug.data.build import Builder
from mtlplug.data.sources import Source
from mtlplug.formats import Task, TaskFormat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Jobs = Sequence[tuple[Task, TaskFormat]]


def write_work(builder: Builder, jobs: Jobs, splits: Sequence[str]) -> str | None:
    """The work as text; None where some of it cannot be told: a source or a value of its own."""
    sources = [source for task, _ in jobs for source in task.sources.values()]
    backend = getattr(builder.tokenizer, "backend_tokenizer", None)
    if backend is None or any(type(source) is not Source for source in sources):
        return None
    work = {
        "tokenizer": [type(builder.tokenizer).__name__, backend.to_str()],
        "cache": str(builder.cache),
        "lengths": [builder.max_length, builder.limit, builder.max_rows],
        "jobs": [[_task(task), _class_name(task_format)] for task, task_format in jobs],
        "splits": list(splits),
    }
    try:
        return json.dumps(work)
    except TypeError:
        return None


def read_work(
    text: str, formats: Mapping[str, TaskFormat]
) -> tuple[Builder, list[tuple[Task, TaskFormat]], list[str]]:
    """The builder, the tasks whose formats are installed here too, and the splits.

    Args:
        text: from `write_work`.
        formats: the installed formats by code.
    """
    work = json.loads(text)
    max_length, limit, max_rows = work["lengths"]
    builder = Builder(
        tokenizer=_tokenizer(*work["tokenizer"]),
        cache=Path(work["cache"]),
        max_length=max_length,
        limit=limit,
        max_rows=max_rows,
        wait=False,
    )
    jobs = [
        (_task_of(values), formats[values["format"]])
        for values, class_name in work["jobs"]
        if _class_name(formats.get(values["format"])) == class_name
    ]
    return builder, jobs, work["splits"]


def _task(task: Task) -> dict[str, Any]:
    sources = {split: _source(source) for split, source in task.sources.items()}
    return {**_values(task), "sources": sources}


def _task_of(values: Mapping[str, Any]) -> Task:
    sources = {split: _source_of(source) for split, source in values["sources"].items()}
    return Task(**{**values, "sources": sources, "labels": tuple(values["labels"])})


def _source(source: Source) -> dict[str, Any]:
    path = None if source.path is None else str(source.path)
    return {**_values(source), "path": path}


def _source_of(values: Mapping[str, Any]) -> Source:
    path = None if values["path"] is None else Path(values["path"])
    return Source(**{**values, "path": path})


def _values(instance: Task | Source) -> dict[str, Any]:
    return {field.name: getattr(instance, field.name) for field in fields(instance)}


def _class_name(task_format: TaskFormat | None) -> str:
    return f"{type(task_format).__module__}.{type(task_format).__qualname__}"


def _tokenizer(class_name: str, text: str) -> PreTrainedTokenizerBase:
    """What a builder needs of a tokenizer: its Rust part, and the name of its class."""
    stand_in = type(class_name, (), {"backend_tokenizer": Tokenizer.from_str(text)})
    return cast("PreTrainedTokenizerBase", stand_in())
