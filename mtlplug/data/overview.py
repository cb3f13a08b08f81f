"""The tasks of a suite as one Markdown table: where they come from and under which terms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtlplug.data.sources import Source
from mtlplug.data.suites import Suite
from mtlplug.formats import TaskFormat

HEAD = ("task", "group", "role", "source", "licence", "split", "metric", "citation", "verified")


def overview(suite: Suite, formats: Mapping[str, TaskFormat]) -> str:
    """One row for each task, in the suite's order."""
    rows = [HEAD, tuple("---" for _ in HEAD)]
    base = suite.path.parent if suite.path else Path()
    for task in suite.tasks.values():
        info = suite.info.get(task.name, {})
        rows.append(
            (
                f"`{task.name}`",
                task.format,
                task.role,
                ", ".join(dict.fromkeys(_source(each, base) for each in task.sources.values())),
                _cell(info.get("licence")),
                _cell(info.get("split", "original")),
                task.metric or formats[task.format].headline,
                _cell(info.get("citation")),
                _cell(info.get("state")),
            )
        )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _source(source: Source, base: Path) -> str:
    """Where a split comes from, short; full urls and checksums stand in the suite."""
    part = f" ({', '.join(f'{c} {v}' for c, v in source.only.items())})" if source.only else ""
    if source.dataset is not None:
        inner = source.config or source.data_dir
        name = f"{source.dataset}/{inner}" if inner else source.dataset
        commit = source.revision or "newest"
        return f"hub `{name}` @ `{commit[:7] if len(commit) == 40 else commit}`{part}"
    if source.url is not None:
        check = "SHA-256 fixed" if source.sha256 else "no checksum"
        return f"[{source.url.rsplit('/', 1)[-1]}]({source.url}) ({check})"
    assert source.path is not None
    folder = source.path.parent
    return f"local `{folder.relative_to(base) if folder.is_relative_to(base) else folder}`"


def _cell(value: Any) -> str:
    return str(value if value is not None else "-").replace("|", "\\|")
