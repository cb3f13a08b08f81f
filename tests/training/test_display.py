"""mtlplug.training.display: what is shown while features are made."""

from __future__ import annotations

import io

from rich.console import Console

from mtlplug.training.display import BuildDisplay


def shown(*, terminal: bool, quiet: bool = False) -> str:
    """What a console shows of a task that is being read and one that is complete."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, quiet=quiet, width=100)
    with BuildDisplay(console, 2) as reading:
        reading.tell("gum", "train", 1024)
        reading.tell("sst2", "", 0)
        reading.tell("sst2", "", 0)
    return out.getvalue()


def test_a_terminal_shows_rows_and_tasks() -> None:
    """Each task that is read has its rows; a task that is told complete twice counts once."""
    text = shown(terminal=True)
    assert "gum" in text
    assert "train: 1,024 rows" in text
    assert "1 of 2" in text
    assert "2 of 2" not in text


def test_the_time_left_is_told_where_the_number_of_rows_is_known() -> None:
    """The process that is farthest counts; a task whose rows are not known has no such time."""
    out = io.StringIO()
    with BuildDisplay(Console(file=out, force_terminal=True, width=120), 1) as reading:
        reading.tell("gum", "train", 900)
        assert "-:--:--" not in out.getvalue()
        reading.tell("gum", "train", 512, 2000)
        reading.tell("gum", "train", 256, 2000)
    assert "train: 512 rows of 2,000" in out.getvalue()
    assert "-:--:--" in out.getvalue()  # rich has not seen enough of it to say


def test_nothing_is_shown_elsewhere() -> None:
    """Neither in a log file nor on the ranks that do not speak."""
    assert shown(terminal=False).strip() == ""
    assert shown(terminal=True, quiet=True) == ""
