"""What can be said and asked about a town, a company, a person or an event of the world.

Each fact has several wordings of the statement and of the question. The statements make the
articles of `almanac` and `guide`, the questions ask about them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Fact(NamedTuple):
    """Wordings of one fact, and the questions that each of its slots answers."""

    statements: tuple[str, ...]
    questions: Mapping[str, tuple[str, ...]]


class Subject(NamedTuple):
    """What articles are about: the slot of its name, how to refer to it, its facts."""

    slot: str
    mentions: tuple[str, ...]
    facts: tuple[Fact, ...]


TOWN = Subject(
    "town",
    ("it", "the town", "{town}"),
    (
        Fact(
            (
                "{subject} lies on the {river}.",
                "{subject} stands on the banks of the {river}.",
                "{subject} grew up around a bridge over the {river}.",
            ),
            {"river": ("Which river does {town} lie on?", "On which river is {town}?")},
        ),
        Fact(
            (
                "{subject} was founded in {town_year}.",
                "{subject} goes back to {town_year}, when a chapel was built.",
                "{subject} has been a town since {town_year}.",
            ),
            {"town_year": ("When was {town} founded?", "Since when has {town} been a town?")},
        ),
        Fact(
            (
                "{subject} is known for {goods}.",
                "{subject} is famous far and wide for its {goods}.",
                "{subject} is loved for its {goods}.",
            ),
            {"goods": ("Which goods is {town} known for?", "What is the speciality of {town}?")},
        ),
        Fact(
            (
                "{subject} has about {inhabitants} inhabitants.",
                "{subject} is home to {inhabitants} people.",
                "{subject} counts {inhabitants} souls.",
            ),
            {
                "inhabitants": (
                    "How many people live in {town}?",
                    "How many inhabitants does {town} have?",
                )
            },
        ),
        Fact(
            (
                "{subject} chose {mayor} as mayor.",
                "{subject} has had the same mayor, {mayor}, for years.",
                "{subject} is governed by {mayor}.",
            ),
            {"mayor": ("Who is the mayor of {town}?", "Who governs {town}?")},
        ),
        Fact(
            (
                "{subject} holds the {event} every {month}.",
                "{subject} is full of guests in {month}, at the time of the {event}.",
                "{subject} celebrates the {event} in {month}.",
            ),
            {
                "event": ("What is celebrated in {town}?", "Which event is held in {town}?"),
                "month": ("In which month is the {event}?", "When is the {event} held?"),
            },
        ),
    ),
)

COMPANY = Subject(
    "company",
    ("it", "the company", "{company}"),
    (
        Fact(
            (
                "{subject} makes {product}.",
                "{subject} has always lived by {product}.",
                "{subject} sends {product} to every harbour.",
            ),
            {"product": ("What does {company} make?", "Which goods does {company} produce?")},
        ),
        Fact(
            (
                "{subject} was started by {founder}.",
                "{subject} was the idea of {founder}, who began in one room.",
                "{subject} was founded by {founder} after a lucky bet.",
            ),
            {"founder": ("Who started {company}?", "Who founded {company}?")},
        ),
        Fact(
            (
                "{subject} opened in {company_year}.",
                "{subject} has been in business since {company_year}.",
                "{subject} took its first order in {company_year}.",
            ),
            {"company_year": ("When did {company} open?", "In which year did {company} begin?")},
        ),
        Fact(
            (
                "{subject} has its workshop in {company_town}.",
                "{subject} stands behind the station of {company_town}.",
                "{subject} has never left {company_town}.",
            ),
            {"company_town": ("Where is {company}?", "In which town is {company}?")},
        ),
        Fact(
            (
                "{subject} employs {workers} people.",
                "{subject} pays wages to {workers} workers.",
                "{subject} gives work to {workers} families.",
            ),
            {
                "workers": (
                    "How many people work for {company}?",
                    "How many workers does {company} have?",
                )
            },
        ),
    ),
)

PERSON = Subject(
    "person",
    ("{they}", "{first}", "{person}"),
    (
        Fact(
            (
                "{subject} was born in {birthplace} in {born}.",
                "{subject} came into the world in {born}, in {birthplace}.",
                "{subject} is a child of {birthplace}, born in {born}.",
            ),
            {
                "birthplace": ("Where was {person} born?", "What is the birthplace of {person}?"),
                "born": ("When was {person} born?", "In which year was {person} born?"),
            },
        ),
        Fact(
            (
                "{subject} now lives in {town}.",
                "{subject} has a small house in {town}.",
                "{subject} has settled down in {town}.",
            ),
            {"town": ("Where does {person} live?", "Which town is the home of {person}?")},
        ),
        Fact(
            (
                "{subject} is a {job} by trade.",
                "{subject} learned to be a {job}.",
                "{subject} earns a living as a {job}.",
            ),
            {"job": ("What is the job of {person}?", "Which trade does {person} follow?")},
        ),
        Fact(
            (
                "{subject} joined {company} in {joined}.",
                "{subject} has been on the books of {company} since {joined}.",
                "{subject} was hired by {company} in {joined}.",
            ),
            {
                "company": ("Which company hired {person}?", "Who does {person} work for?"),
                "joined": ("When did {person} join {company}?", "When was {person} hired?"),
            },
        ),
        Fact(
            (
                "{subject} loves {hobby}.",
                "{subject} spends every free hour {hobby}.",
                "{subject} has one great joy, {hobby}.",
            ),
            {"hobby": ("What does {person} love?", "What is the hobby of {person}?")},
        ),
    ),
)

EVENT = Subject(
    "event",
    ("it", "the event", "the {event}"),
    (
        Fact(
            (
                "{subject} takes place in {town}.",
                "{subject} fills the streets of {town}.",
                "{subject} brings half the valley to {town}.",
            ),
            {"town": ("Where does the {event} take place?", "Which town has the {event}?")},
        ),
        Fact(
            (
                "{subject} is held every {month}.",
                "{subject} falls in {month}.",
                "{subject} begins on the first Sunday of {month}.",
            ),
            {"month": ("In which month is the {event}?", "When is the {event} held?")},
        ),
        Fact(
            (
                "{subject} was first held in {event_year}.",
                "{subject} goes back to {event_year}.",
                "{subject} has been going on since {event_year}.",
            ),
            {"event_year": ("In which year did the {event} begin?", "When was the first {event}?")},
        ),
        Fact(
            (
                "{subject} is paid for by {company}.",
                "{subject} could not be held without money from {company}.",
                "{subject} has a generous friend in {company}.",
            ),
            {"company": ("Who pays for the {event}?", "Which company supports the {event}?")},
        ),
        Fact(
            (
                "{subject} is led by {other}.",
                "{subject} has been in the hands of {other} for {number} years.",
                "{subject} is the pride of {other}, who plans it.",
            ),
            {"other": ("Who leads the {event}?", "Who is in charge of the {event}?")},
        ),
        Fact(
            (
                "{subject} gives a prize of {prize}.",
                "{subject} sends the winner home with {prize}.",
                "{subject} ends with a prize, which is {prize}.",
            ),
            {"prize": ("What is the prize at the {event}?", "What does the winner get?")},
        ),
    ),
)

ARTICLES = (TOWN, COMPANY, PERSON)


def wordings(fact: Fact) -> tuple[str, ...]:
    """All questions that a fact answers."""
    return tuple(text for texts in fact.questions.values() for text in texts)
