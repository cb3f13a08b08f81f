"""The question answering tasks: short texts, questions, and the answers marked in the text.

`almanac` (articles) and `letters` are for training, `guide` (articles about events, with
questions that the text does not answer) is the unseen target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mtlplug.demo.almanac import ARTICLES, EVENT, Fact, Subject, wordings
from mtlplug.demo.passages import Author, Passage, fill, join


class Question(NamedTuple):
    """A question; the answer is a piece of the context, or None where there is none."""

    text: str
    start: int | None
    end: int | None


class Reading(NamedTuple):
    """A context and the questions about it."""

    title: str
    context: str
    questions: tuple[Question, ...]


LETTER: tuple[Fact, ...] = (
    Fact(
        (
            "I reached {town} on {day}.",
            "On {day} I arrived in {town}.",
            "The coach brought me to {town} late on {day}.",
        ),
        {
            "town": ("Where did the writer arrive?", "Which town did the writer reach?"),
            "day": ("On which day did the writer arrive?", "When did the writer arrive?"),
        },
    ),
    Fact(
        (
            "I am staying with {other}, the {other_job}.",
            "{other}, a {other_job}, has given me a room.",
            "I sleep at the house of {other}, who is a {other_job}.",
        ),
        {
            "other": ("Who gave the writer a room?", "Who is the writer staying with?"),
            "other_job": ("What is the job of the host?", "What does the host do for a living?"),
        },
    ),
    Fact(
        (
            "At the market I bought {goods} for {price} pence.",
            "I paid {price} pence for {goods}.",
            "They asked {price} pence for {goods}, and I paid it.",
        ),
        {
            "goods": ("What did the writer buy?", "What did the writer spend money on?"),
            "price": ("How much did the writer pay?", "How many pence did the writer spend?"),
        },
    ),
    Fact(
        (
            "I have found work at {company}.",
            "Tomorrow I begin to work for {company}.",
            "They want me at {company}, and the pay is good.",
        ),
        {"company": ("Where will the writer work?", "Which company hired the writer?")},
    ),
    Fact(
        (
            "In the evening we row on the {river}.",
            "Yesterday I fell into the {river}.",
            "My window looks out on the {river}.",
        ),
        {"river": ("Which river is mentioned?", "What is the name of the river?")},
    ),
    Fact(
        (
            "We all hope to see the {event}.",
            "Everybody here speaks of the {event}.",
            "I have a ticket for the {event}.",
        ),
        {"event": ("Which event is mentioned?", "What is the name of the event?")},
    ),
    Fact(
        (
            "Next {other_day} I travel on to {other_town}.",
            "I leave for {other_town} on {other_day}.",
            "My next stop is {other_town}, from {other_day}.",
        ),
        {
            "other_town": ("Where will the writer go next?", "Which town is the next stop?"),
            "other_day": ("When will the writer leave?", "On which day does the writer travel on?"),
        },
    ),
)
GREETINGS = ("Dear {third},", "My dear {third},", "To {third}:")
TO = ("Who is the letter for?", "Who gets the letter?")
CLOSINGS = ("Yours, {person}", "With love from {person}", "Your friend {person}")
FROM = ("Who wrote the letter?", "Who is the letter from?")


def almanac(author: Author, count: int) -> list[Reading]:
    """Articles about towns, companies and people."""

    def article() -> Reading:
        return _article(author, author.rng.choice(ARTICLES))

    return author.different(article, lambda reading: reading.context, count)


def guide(author: Author, count: int) -> list[Reading]:
    """Articles about events; the last question of each has no answer in the text."""

    def article() -> Reading:
        return _article(author, EVENT, unanswered=1)

    return author.different(article, lambda reading: reading.context, count)


def letters(author: Author, count: int) -> list[Reading]:
    """Letters of travellers."""
    return author.different(lambda: _letter(author), lambda reading: reading.context, count)


def _article(author: Author, subject: Subject, unanswered: int = 0) -> Reading:
    facts = author.scene()
    told = author.rng.sample(subject.facts, 4)
    sentences = []
    for number, fact in enumerate(told):
        mention = author.rng.choice(subject.mentions) if number else subject.mentions[-1]
        named = {**facts, "subject": fill(mention, facts, capital=False).text}
        sentences.append(fill(author.rng.choice(fact.statements), named))
    context = join(sentences)
    questions = _questions(author, context, told, facts)
    untold = [fact for fact in subject.facts if fact not in told]
    for fact in untold[:unanswered]:
        text = fill(author.rng.choice(wordings(fact)), facts).text
        questions.append(Question(text, None, None))
    return Reading(facts[subject.slot], context.text, tuple(questions))


def _letter(author: Author) -> Reading:
    facts = author.scene()
    numbers = sorted(author.rng.sample(range(len(LETTER)), 4))
    body = [LETTER[number] for number in numbers]
    told = [Fact(GREETINGS, {"third": TO}), *body, Fact(CLOSINGS, {"person": FROM})]
    context = join(fill(author.rng.choice(fact.statements), facts) for fact in told)
    questions = _questions(author, context, told, facts)
    return Reading(f"Letter to {facts['third']}", context.text, tuple(questions))


def _questions(
    author: Author, context: Passage, told: Sequence[Fact], facts: Mapping[str, str]
) -> list[Question]:
    """Three questions about different slots of a context."""
    asked = [item for fact in told for item in fact.questions.items()]
    questions = []
    for slot, texts in author.rng.sample(asked, 3):
        _, start, end = context.first(slot)
        questions.append(Question(fill(author.rng.choice(texts), facts).text, start, end))
    return questions
