"""The classification tasks: what a text is about, how its writer feels, what a reply means.

`mood`, `topics` and `replies` are for training, `mail` is the unseen target.
"""

from __future__ import annotations

from collections.abc import Mapping

from mtlplug.demo.passages import Author, fill, join
from mtlplug.demo.wordings import BAD, GOOD, INVITATIONS, MAIL, MOODS, REPLIES, THINGS, TOPICS

Example = tuple[str, ...]
"""The texts of an example, then its label."""


def mood(author: Author, count: int) -> list[Example]:
    """Lines from guest books, and whether the guest was pleased ("1") or not ("0")."""

    def example() -> Example:
        facts = author.scene()
        thing, other_thing = author.rng.sample(THINGS, 2)
        good, bad = author.rng.choice(GOOD), author.rng.choice(BAD)
        slots = {
            "thing": fill(thing, facts, capital=False).text,
            "other_thing": fill(other_thing, facts, capital=False).text,
            "good": good,
            "bad": bad,
            "good_start": good.capitalize(),
            "bad_start": bad.capitalize(),
        }
        label = author.rng.choice(tuple(MOODS))
        return fill(author.template(MOODS[label]), slots).text, label

    return author.different(example, lambda row: row[0], count)


def topics(author: Author, count: int) -> list[Example]:
    """News of two sentences, and what they are about."""

    def example() -> Example:
        topic = author.rng.choice(tuple(TOPICS))
        pair = author.templates(TOPICS[topic], 2)
        return join(fill(text, author.scene()) for text in pair).text, topic

    return author.different(example, lambda row: row[0], count)


def mail(author: Author, count: int) -> list[Example]:
    """Letters to a town hall and what their writers want."""
    return _by_label(author, MAIL, count)


def replies(author: Author, count: int) -> list[Example]:
    """An invitation, its reply, and whether the guest is coming ("yes", "no" or "open")."""

    def example() -> Example:
        facts = author.scene()
        asks_to_come = author.rng.random() < 2 / 3
        invitation = fill(author.template(INVITATIONS[asks_to_come]), facts).text
        said = author.rng.choice(tuple(REPLIES))
        label = said if asks_to_come else {"yes": "no", "no": "yes", "open": "open"}[said]
        return invitation, fill(author.template(REPLIES[said]), facts).text, label

    return author.different(example, " ".join, count)


def _by_label(author: Author, classes: Mapping[str, tuple[str, ...]], count: int) -> list[Example]:
    def example() -> Example:
        label = author.rng.choice(tuple(classes))
        return fill(author.template(classes[label]), author.scene()).text, label

    return author.different(example, lambda row: row[0], count)
