"""How checks are shown to people and to programs."""

from __future__ import annotations

import json
import math

import pytest
from rich.console import Console

from mtlplug.doctor.checks import as_json, bad, note, ok, show, size, summary

CHECKS = [ok("one", "fine", name="x"), note("two", "so so"), bad("three", "[red]", "mend it")]


def test_summary_counts_each_status() -> None:
    """The last line says how many checks there were of each kind, none of a kind left out."""
    assert summary(CHECKS) == "3 checks: 1 ok, 1 note, 1 bad"
    assert summary(CHECKS[:1]) == "1 checks: 1 ok"


def test_a_check_shows_what_to_do() -> None:
    """Status, name and finding stand on one line, the remedy below; markup is text."""
    console = Console(width=80)
    with console.capture() as captured:
        show(console, CHECKS[2])
    first, second = captured.get().splitlines()
    assert first.split() == ["bad", "three", "[red]"]
    assert second.split() == ["mend", "it"]


def test_json_holds_every_check() -> None:
    """Programs get status, finding, remedy and facts; `ok` only if none is bad."""
    found = json.loads(as_json(CHECKS))
    assert found["ok"] is False
    assert json.loads(as_json(CHECKS[:2]))["ok"] is True
    assert found["checks"][0] == {
        "name": "one",
        "status": "ok",
        "found": "fine",
        "remedy": "",
        "facts": {"name": "x"},
    }


def test_json_without_infinity() -> None:
    """A difference that is no number does not spoil the JSON."""
    text = as_json([bad("one", "", "", difference=math.inf, other=math.nan, third=1.5)])
    facts = json.loads(text, parse_constant=pytest.fail)["checks"][0]["facts"]
    assert facts == {"difference": "inf", "other": "nan", "third": 1.5}


def test_size_for_people() -> None:
    """Small things are told in MiB."""
    assert size(12 << 20) == "12 MiB"
    assert size(3 << 29) == "1.5 GiB"
