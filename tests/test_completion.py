"""What the shell completes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from mtlplug.completion import complete_groups, complete_suites, complete_tasks
from mtlplug.data.suites import known_suites
from tests import small_suite


def completed(function: Any, incomplete: str, **params: Any) -> list[str]:
    """The values offered."""
    context = click.Context(click.Command("run"))
    context.params = params
    return [each.value for each in function(context, None, incomplete)]


def test_suites() -> None:
    """Those that come with mtlplug, and files."""
    assert completed(complete_suites, "")[:-1] == ["demo", *known_suites()]
    assert completed(complete_suites, "de") == ["demo", "de"]


def test_groups_and_tasks_of_the_demo() -> None:
    """Without a suite they are the demo's; after a plus the next one is completed."""
    assert completed(complete_groups, "S") == ["SL"]
    assert completed(complete_groups, "SL+to") == ["SL+towns", "SL+topics"]
    assert completed(complete_groups, "SL,QA+to") == ["SL,QA+towns", "SL,QA+topics"]
    assert completed(complete_tasks, "pe") == ["people"]


def test_of_a_file(tmp_path: Path) -> None:
    """Tasks of a file, and of the suites that it extends."""
    suite = small_suite.write(tmp_path)
    assert completed(complete_groups, "", suite=str(suite)) == [
        *("SL", "QA", "C", "words", "tags", "spans", "kinds")
    ]
    more = tmp_path / "more.toml"
    more.write_text('extends = "tiny.toml"\n[tasks.extra]\nformat = "C"\n')
    assert completed(complete_tasks, "", suite=str(more)) == ["tags", "spans", "kinds", "extra"]


@pytest.mark.parametrize("text", [None, "a = = 3", "tasks = 3", 'extends = "self.toml"'])
def test_what_cannot_be_read(tmp_path: Path, text: str | None) -> None:
    """A suite that is missing or broken completes nothing, without a word."""
    file = tmp_path / "self.toml"
    if text is not None:
        file.write_text(text)
    assert completed(complete_tasks, "", suite=str(file)) == []
