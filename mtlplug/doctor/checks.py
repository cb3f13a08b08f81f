"""What a check says, and how a list of them is shown.

A check is a function that yields `Check`s; `mtlplug.doctor.command` puts them in order. To add
one, write such a function and name it there.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

OK, NOTE, BAD = "ok", "note", "bad"
STYLES = {OK: "green", NOTE: "yellow", BAD: "bold red"}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: of what was looked at.
        status: "ok", "note" (works, but worth knowing) or "bad" (will fail, or give wrong results).
        found: what was found, a phrase.
        remedy: what to do about it; empty where nothing needs doing.
        facts: the same for machines, JSON-like.
    """

    name: str
    status: str
    found: str
    remedy: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def ok(name: str, found: str, /, **facts: Any) -> Check:
    """A check that passed."""
    return Check(name, OK, found, "", facts)


def note(name: str, found: str, remedy: str = "", /, **facts: Any) -> Check:
    """Something worth knowing."""
    return Check(name, NOTE, found, remedy, facts)


def bad(name: str, found: str, remedy: str, /, **facts: Any) -> Check:
    """A check that failed."""
    return Check(name, BAD, found, remedy, facts)


def size(number: int) -> str:
    """A number of bytes for people."""
    return f"{number / (1 << 30):.1f} GiB" if number >= 1 << 30 else f"{number / (1 << 20):.0f} MiB"


def show(console: Console, check: Check) -> None:
    """Print one check: its status, its name, what was found, and what to do below it."""
    row = Table.grid(padding=(0, 2))
    row.add_column(width=4)
    row.add_column(width=22)
    row.add_column()
    style = STYLES[check.status]
    row.add_row(f"[{style}]{check.status}[/{style}]", escape(check.name), escape(check.found))
    if check.remedy:
        row.add_row("", "", f"[{style}]{escape(check.remedy)}[/{style}]")
    console.print(row)


def summary(checks: Sequence[Check]) -> str:
    """How many checks there were of each status."""
    counts = Counter(check.status for check in checks)
    numbers = ", ".join(f"{counts[status]} {status}" for status in STYLES if counts[status])
    return f"{len(checks)} checks: {numbers}"


def as_json(checks: Sequence[Check]) -> str:
    """All checks as one JSON object; `ok` is whether none is bad."""
    return json.dumps(
        {
            "ok": all(check.status != BAD for check in checks),
            "checks": [
                dataclasses.asdict(check) | {"facts": _finite(check.facts)} for check in checks
            ],
        },
        ensure_ascii=False,
        indent=1,
    )


def _finite(facts: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no infinity."""
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in facts.items()
    }
