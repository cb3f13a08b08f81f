"""Damaged inputs, what became of each, and the figures of all of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

OUTCOMES = ("accepted", "repaired", "refused", "traceback", "hang", "label shift", "bad sentence")
FAILED = OUTCOMES[3:]


@dataclass(frozen=True)
class Case:
    """One damaged input.

    Attributes:
        number: that it is made from, with the seed.
        kind: of the input.
        files: content by name; the suite's is `mine.toml`.
        original: content of the mutated file before.
        file: the mutated file.
        ways: names of the mutations.
        tokenizer: which one reads it.
    """

    number: int
    kind: str
    files: Mapping[str, bytes]
    original: bytes
    file: str
    ways: list[str]
    tokenizer: str


@dataclass
class Found:
    """What became of a case.

    Attributes:
        outcome: one of `OUTCOMES`.
        says: the sentence of a refusal, or what is wrong.
        counts: what was repaired or dropped.
        untouched: rows whose labels were compared with the file's.
        seconds: it took.
    """

    outcome: str
    says: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    untouched: int = 0
    seconds: float = 0.0


def summary(found: list[tuple[Case, Found]]) -> dict[str, Any]:
    """Figures by kind, what was counted, the sentences with numbers left out, the failures."""
    kinds: dict[str, dict[str, int]] = {}
    counts: Counter[str] = Counter()
    sentences: Counter[str] = Counter()
    for case, each in found:
        row = kinds.setdefault(case.kind, dict.fromkeys(OUTCOMES, 0))
        row[each.outcome] += 1
        counts.update(each.counts)
        if each.outcome == "refused":
            sentences[re.sub(r"\d+|'[^']*'|\"[^\"]*\"", "_", each.says)[:120]] += 1
    failures = [
        {
            "case": case.number,
            "kind": case.kind,
            "ways": case.ways,
            "outcome": each.outcome,
            "says": each.says,
        }
        for case, each in found
        if each.outcome in FAILED
    ]
    return {
        "cases": len(found),
        "untouched_rows_checked": sum(each.untouched for _, each in found),
        "slowest_seconds": round(max(each.seconds for _, each in found), 2),
        "kinds": kinds,
        "counted": dict(counts.most_common()),
        "sentences": dict(sentences.most_common(60)),
        "failures": failures,
    }


def table(result: Mapping[str, Any]) -> Table:
    """Outcomes by kind."""
    shown = Table(title=f"{result['cases']:,} damaged inputs", title_justify="left")
    for column in ("kind", *OUTCOMES):
        shown.add_column(column, justify="left" if column == "kind" else "right")
    for kind, row in result["kinds"].items():
        shown.add_row(kind, *(f"{row[outcome]:,}" for outcome in OUTCOMES))
    total = Counter[str]()
    for row in result["kinds"].values():
        total.update(row)
    shown.add_section()
    shown.add_row("all", *(f"{total[outcome]:,}" for outcome in OUTCOMES))
    seen = sum(outcome == "label shift" for outcome in result["controls"].values())
    shown.caption = (
        f"{result['untouched_rows_checked']:,} untouched rows kept their labels; {seen} of "
        f"{len(result['controls'])} shifts made on purpose were noticed; the slowest case took "
        f"{result['slowest_seconds']:.1f} s"
    )
    return shown
