"""Figures as people write them, for sentences and the page."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

MINUS = "\N{MINUS SIGN}"


def score(value: float) -> str:
    """A score in percent.

    >>> score(81.249)
    '81.2'
    """
    return f"{value:.1f}".replace("-", MINUS)


def signed(value: float) -> str:
    """A difference with its sign; nothing is -0.0.

    >>> signed(3.14), signed(-0.04), signed(-2)
    ('+3.1', '0.0', '−2.0')
    """
    rounded = round(value, 1) + 0.0
    return f"{rounded:+.1f}".replace("-", MINUS) if rounded else "0.0"


def duration(seconds: float) -> str:
    """A time in the units people use.

    >>> [duration(each) for each in (9.87, 75, 3000, 7260, 200_000)]
    ['9.9 s', '1 min 15 s', '50 min', '2 h 01', '2 d 8 h']
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 599.5:
        return f"{round(seconds) // 60} min {round(seconds) % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d}"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def plural(count: int, noun: str) -> str:
    """A number and its noun.

    >>> plural(1, "target"), plural(0, "target")
    ('1 target', '0 targets')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def places(numbers: Sequence[int]) -> str:
    """Whole numbers in their order, three or more in a row as the first and the last.

    >>> places([0, 4, 5, 6, 7, 9, 10])
    '0, 4-7, 9, 10'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(
        f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
    )


def counted(counts: Mapping[str, int]) -> str:
    """Counts of what was cut, dropped or repaired, whose names are in the plural.

    >>> counted({"words cut": 1200, "entities cut": 1})
    '1 entity cut, 1,200 words cut'
    """
    return ", ".join(
        f"{number:,} {_one_of(what) if number == 1 else what}"
        for what, number in sorted(counts.items())
    )


def notes(facts: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    """What a format found in the training rows, and what was done to rows, for a table cell."""
    found = [f"{key}: {value}" for key, value in facts.items() if key != "labels"]
    return ", ".join([*found, counted(counts)] if counts else found) or "-"


def _one_of(what: str) -> str:
    """The singular of the noun that a phrase begins with."""
    noun, *rest = what.split(" ")
    noun = f"{noun[:-3]}y" if noun.endswith("ies") else noun.removesuffix("s")
    return " ".join([noun, *rest])


def listing(parts: Sequence[str]) -> str:
    """Several things in a sentence.

    >>> listing(["a", "b", "c"]), listing(["a"])
    ('a, b and c', 'a')
    """
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def folded(command: str, width: int = 88) -> str:
    """A command in lines of some `width`, which a shell takes as one; options begin lines.

    >>> print(folded("mtlplug run --groups SL+C --seed 13", 26))
    mtlplug run --groups SL+C \\
      --seed 13
    """
    try:
        words = [shlex.quote(word) for word in shlex.split(command)]
    except ValueError:  # none that a shell takes
        return command
    lines = [""]
    for word in words:
        if word.startswith("-") and len(lines[-1]) + len(word) >= width:
            lines.append(" ")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n".join(lines)


def facts(values: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Name, text and whether it is long, of everything in nested values.

    >>> facts({"machine": {"cores": 2}, "versions": ["a", "b"]})
    [('machine, cores', '2', False), ('versions', 'a, b', False)]
    """
    found = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += [(f"{name}, {inner}", text, long) for inner, text, long in facts(value)]
            continue
        many = isinstance(value, Sequence) and not isinstance(value, str)
        text = ", ".join(map(str, value)) if many else str(value)
        found.append((str(name), text, len(text) > 60 or "\n" in text))
    return found
