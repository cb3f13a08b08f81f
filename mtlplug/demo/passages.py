"""Templates with slots, filled with facts, and where in the text each fact came to stand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from string import Formatter
from typing import NamedTuple, TypeVar

from mtlplug.demo.world import World

WORD = re.compile(r"\d+(?:,\d+)*|\w+(?:['-]\w+)*|[^\w\s]")
"""A word of the corpus: a number, a word, or one mark."""

Item = TypeVar("Item")


class Span(NamedTuple):
    """A filled slot: its name, its first character and the one after its last."""

    slot: str
    start: int
    end: int


@dataclass(frozen=True)
class Passage:
    """A text and the slots filled in it, in order."""

    text: str
    spans: tuple[Span, ...]

    def first(self, slot: str) -> Span:
        """The first place of a slot.

        Raises:
            StopIteration: the passage has no such slot.
        """
        return next(span for span in self.spans if span.slot == slot)


def fill(template: str, facts: Mapping[str, str], capital: bool = True) -> Passage:
    """Fill a template's `{slots}`; the first letter of the text becomes a capital."""
    text, spans = "", []
    for literal, slot, _, _ in Formatter().parse(template):
        text += literal
        if slot is not None:
            spans.append(Span(slot, len(text), len(text) + len(facts[slot])))
            text += facts[slot]
    return Passage(text[:1].upper() + text[1:] if capital else text, tuple(spans))


def join(passages: Iterable[Passage]) -> Passage:
    """Passages one after the other, with a blank between."""
    text, spans = "", []
    for passage in passages:
        text += " " if text else ""
        spans += [Span(slot, len(text) + a, len(text) + b) for slot, a, b in passage.spans]
        text += passage.text
    return Passage(text, tuple(spans))


def words(text: str) -> Iterator[tuple[str, int, int]]:
    """The words of a text with their first character and the one after their last."""
    for match in WORD.finditer(text):
        yield match.group(), match.start(), match.end()


@dataclass
class Author:
    """Writes one task's texts for one split.

    Attributes:
        world: the bank of the world the split speaks of.
        rng: where all chance comes from.
        held_out: whether templates kept from training may be used.
        seen: texts written before, for this split or another; none is written twice.
    """

    world: World
    rng: Random
    held_out: bool
    seen: set[str]

    def scene(self) -> dict[str, str]:
        """Facts around a new person."""
        return self.world.scene(self.rng)

    def template(self, templates: Sequence[str]) -> str:
        """One of the templates; the last sixth is kept from training."""
        return self.templates(templates, 1)[0]

    def templates(self, templates: Sequence[str], count: int) -> list[str]:
        """Some of the templates; the last sixth is kept from training."""
        known = len(templates) - (0 if self.held_out else len(templates) // 6)
        return self.rng.sample(templates[:known], count)

    def different(
        self, make: Callable[[], Item], text: Callable[[Item], str], count: int
    ) -> list[Item]:
        """As many examples as wanted, no two with the same text."""
        found: list[Item] = []
        while len(found) < count:
            example = make()
            if text(example) not in self.seen:
                self.seen.add(text(example))
                found.append(example)
        return found
