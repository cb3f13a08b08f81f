"""The suite of real tasks, with and without its data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from suite_helpers import FORMATS

from mtlplug.data.suites import known_suites, load_suite


def test_collection_loads() -> None:
    """The suite of fifty tasks is sound without its data, and names no unused split or role."""
    assert "collection" in known_suites()
    suite = load_suite("collection", FORMATS)
    assert len(suite.tasks) == 50
    assert len(suite.select("SL+QA+C")) == 18
    assert suite.tasks["cb"].metric == "f1"
    assert all({"language", "licence", "source"} == set(info) for info in suite.info.values())


@pytest.mark.slow
def test_collection_rows(real_data: Path) -> None:
    """Every split of every real task has the rows its index counts, all columns filled."""
    suite = load_suite("collection", FORMATS, real_data)
    index = json.loads((real_data / "tasks.json").read_text(encoding="utf-8"))
    renamed = {"dev": "valid", "val": "valid"}
    roles = {"pre-finetuning": "pretrain"}
    wanted = {
        (task["task"], renamed.get(split, split)): number
        for task in index
        for split, number in task["rows"].items()
    }
    found: dict[tuple[str, str], int] = {}
    gaps: dict[tuple[str, str], int] = {}
    for task in suite.tasks.values():
        for split, source in task.sources.items():
            rows = list(source.rows())
            found[task.name, split] = len(rows)
            gaps[task.name, split] = sum(None in row.values() for row in rows)
    assert found == wanted
    # GLUE's malformed row: the label is glued to the second question.
    assert {place: number for place, number in gaps.items() if number} == {("qqp", "train"): 1}
    for task in index:
        role = task["role"].split(" ")[0]
        assert suite.tasks[task["task"]].role == roles.get(role, role)
        assert suite.tasks[task["task"]].format == task["group"]
