"""The sequence labelling tasks: templates, and which slot carries which tag.

`people`, `places` and `orders` are for training, `fairs` is the unseen target.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mtlplug.demo.passages import Author, Passage, fill, words


class Sentence(NamedTuple):
    """Words with the entities among them: (type, first word, word after the last)."""

    words: tuple[str, ...]
    entities: tuple[tuple[str, int, int], ...]


class Tagging(NamedTuple):
    """A task: its templates and the type each slot is tagged with."""

    templates: tuple[str, ...]
    types: Mapping[str, str]


PEOPLE = Tagging(
    (
        "{person}, a {job} from {town}, has joined {company}.",
        "{company} of {company_town} will hire {number} people this {season}, said {person}.",
        "The mayor of {town}, {mayor}, opened the new bridge on {day}.",
        "After {number} years at {company}, {person} is going back to {birthplace}.",
        "{other} bought the old mill from {person} for a small sum.",
        "Both {person} and {other} grew up in {birthplace}.",
        '"We work for the whole valley," says {person} of {company}.',
        "{surname} told reporters that {company} is doing well.",
        "The {job} {person} married the {other_job} {other} in {town} last {month}.",
        "Nobody in {company_town} knew why {company} had closed its doors.",
        "Rain kept {person} at home, so {other} drove to {town} alone.",
        "The road from {town} to {other_town} is shut until {month}.",
        "{company} and {other_company} have agreed on a price for {product}.",
        "There was no news from the harbour on {day}, and the {other_job} went home.",
        "A {job} found a silver ring in the {season} grass near {town}.",
        "In {joined}, {person} moved from {birthplace} to {town} to work as a {job}.",
        "{founder} started {company} with {number} workers and one horse.",
        "Mrs {surname} of {town} turned ninety on {day}.",
        "Ask {first} about the {product}, not the {other_job}.",
        "Workers at {company} walked out on {day}; {other_company} did not.",
        "{mayor} will speak in {town} and {third_town} before the end of {month}.",
        "The painter lent {number} pictures to {person}, who lives in {town}.",
        "Its {job} left, and {company} is looking for another.",
        "Doctor {surname} has seen {number} cases of fever since {day}.",
        "The judge in {town} let {person} go, but {other} has to pay {price} pounds.",
        "{person} ({town}) beat {other} ({other_town}) after {number} hours of chess.",
        "On {day} a ferry with {number} teachers on board reached {town}.",
        "{company}, which makes {product}, was sold to {other_company} in {month}.",
        "The choir of {town} sang for {mayor} and for the workers of {company}.",
        "A letter from {third} reached {person} after {number} months.",
        "It was {person} who planted the oak in front of {company}.",
        "Half of {town} came to see {other} on {day}.",
        "Neither {other} nor {third} has been to {birthplace} since {joined}.",
        "A boat built by {company} sank near {other_town} last {season}.",
        "The old {job} left {their} house to {third} of {third_town}.",
        "When {person} retires, {third} will lead {company}.",
    ),
    {
        **dict.fromkeys(
            ("person", "other", "third", "surname", "first", "mayor", "founder"), "PER"
        ),
        **dict.fromkeys(("town", "other_town", "third_town", "birthplace", "company_town"), "LOC"),
        **dict.fromkeys(("company", "other_company"), "ORG"),
    },
)

PLACES = Tagging(
    (
        "The {river} rises in the {hills} and reaches {town} after {length} miles.",
        "{town} lies on the {river}, {miles} miles from {other_town}.",
        "From {town} you can see the {hills}.",
        "Stops: {town} {other_town} {third_town}, then back.",
        "Signpost: {other_town} {town}, {miles} miles.",
        "{town} has had a market since {town_year}.",
        "The {river} and the {other_river} meet below {town}.",
        "In {town_year} the {river} washed away half of {town}.",
        "A footpath leads over the {hills} to {third_town}.",
        "{number} bridges cross the {river} between {town} and {other_town}.",
        "Snow lies on the {hills} until {month}.",
        "The map of {town_year} shows {town} on the wrong side of the {river}.",
        "Of all the towns on the {river}, {town} is the oldest.",
        "Boats go up the {other_river} as far as {third_town}.",
        "{town}, founded in {town_year}, has {inhabitants} inhabitants.",
        "Wells are deep in this part of the valley, and there is no river for {miles} miles.",
        "Turn left at the mill in {other_town} and follow the {other_river}.",
        "The stone for the church came from the {hills}.",
        "Trains to {town} {third_town} leave at {number} each morning.",
        "Floods were seen in {town} in {town_year} and again in {event_year}.",
        "Herons nest where the {other_river} leaves the {hills}.",
        "The wind comes over the {hills}, so {town} is cold in {month}.",
        "Walk from {town} to {other_town} in {number} hours.",
        "The bridge at {third_town} was built in {event_year} and is still in use.",
        "East of the {river} there are no towns but {town} and {third_town}.",
        "The source of the {river} was found in {town_year}, high in the {hills}.",
        "The {other_river} is {length} miles long.",
        "Old maps call the {hills} the end of the world.",
        "Since {event_year} a ferry has run from {town} to {other_town}.",
        "Nobody lives in the {hills} in {season}.",
    ),
    {
        **dict.fromkeys(("town", "other_town", "third_town"), "TOWN"),
        **dict.fromkeys(("river", "other_river"), "RIVER"),
        **dict.fromkeys(("town_year", "event_year"), "YEAR"),
        "hills": "HILLS",
    },
)

ORDERS = Tagging(
    (
        "Please send {amount} of {goods} to {person} in {town} by {day}.",
        "I would like {amount} of {goods}.",
        "Can {other} have {amount} of {product} before {day}?",
        "We need {amount} of {goods} and {other_amount} of {other_goods} in {town}.",
        "Cancel the {goods} for {person}, please.",
        "{amount} of {other_goods}, and quickly!",
        "Is there any {product} left for {other}?",
        "Take the {goods} to {town} on {day}.",
        "My name is {person} and I am still waiting for my {goods}.",
        "Put {amount} of {product} on the cart to {other_town}.",
        "Could you bring the {goods} on {day} instead of {other_day}?",
        "What does {amount} of {product} cost?",
        "Hello, this is {other} from {town}.",
        "I ordered {goods}, not {product}.",
        "For {person}: {amount} of {product}, to be fetched on {day}.",
        "Do you have {other_goods} from {other_town}?",
        "Leave it at the inn in {town}, {other} will pay.",
        "Thank you, that is all for {day}.",
        "Send {other} the bill for the {product}.",
        "No {goods} this week, but {amount} of {product} on {other_day}.",
        "I will come to {other_town} on {day} and pay for the {product}.",
        "May I change {amount} of {goods} to {product}?",
        "{day} is too late for the {goods}.",
        "Tell {person} that the {other_goods} went to {town} by mistake.",
        "Another {product} order for {town}: {amount}, please.",
        "Let {other} know when the {goods} will be in {town}.",
        "Add {amount} of {goods} to the order of {person}.",
        "How many loads of {product} can you send to {town} by {day}?",
    ),
    {
        **dict.fromkeys(("amount", "other_amount"), "AMOUNT"),
        **dict.fromkeys(("goods", "other_goods", "product"), "GOODS"),
        **dict.fromkeys(("person", "other"), "NAME"),
        **dict.fromkeys(("town", "other_town"), "PLACE"),
        **dict.fromkeys(("day", "other_day"), "DAY"),
    },
)

FAIRS = Tagging(
    (
        "The {event} in {town} begins on {date}.",
        "{company} gives the first prize at the {event}.",
        "Tickets for the {event} can be had from {person} in {town}.",
        "On {date}, {mayor} opens the {event}.",
        "This year the {event} moves from {town} to {other_town}.",
        "{person} has won the {event} {number} times.",
        "The {event} and the {other_event} are on the same day, {date}.",
        "Money for the {event} comes from {company}.",
        "There will be music by {other} until late.",
        "Children from {other_town} pay nothing at the {event}.",
        "Because of rain the {event} was put off to {date}.",
        "Write to {person}, {town}, before {date}.",
        "The {other_event} needs helpers; ask {other}.",
        "Nobody wins anything at the {event}, and nobody minds.",
        "{company} and {other_company} share a tent this {season}.",
        "{other} will lead the {event} through {town} on {date}.",
        "Bring a lamp to the {event} if you come from {other_town}.",
        "After the {event}, {company} pays for the clean-up.",
    ),
    {
        **dict.fromkeys(("event", "other_event"), "EVENT"),
        **dict.fromkeys(("town", "other_town"), "TOWN"),
        **dict.fromkeys(("person", "other", "mayor"), "PERSON"),
        **dict.fromkeys(("company", "other_company"), "COMPANY"),
        "date": "DATE",
    },
)


def sentences(task: Tagging, author: Author, count: int) -> list[Sentence]:
    """Different sentences of a task."""

    def example() -> Passage:
        return fill(author.template(task.templates), author.scene())

    found = author.different(example, lambda passage: passage.text, count)
    return [sentence(passage, task.types) for passage in found]


def sentence(passage: Passage, types: Mapping[str, str]) -> Sentence:
    """Split a passage into words and count its tagged slots in words."""
    found = list(words(passage.text))
    entities = []
    for slot, start, end in passage.spans:
        if slot in types:
            inside = [
                i for i, (_, first, last) in enumerate(found) if start <= first and last <= end
            ]
            entities.append((types[slot], inside[0], inside[-1] + 1))
    return Sentence(tuple(word for word, _, _ in found), tuple(entities))


def tags(example: Sentence, scheme: str) -> list[str]:
    """The tags of a sentence as "IOB2", "IOB1" (B only between neighbours of one type), "BILOU"
    or "plain" (types without prefix)."""
    found = ["O"] * len(example.words)
    last: tuple[str, int] | None = None
    for name, start, end in example.entities:
        inner = ["I"] * (end - start)
        if scheme == "IOB2" or (scheme == "IOB1" and last == (name, start)):
            inner[0] = "B"
        elif scheme == "BILOU":
            inner = ["U"] if len(inner) == 1 else ["B", *inner[1:-1], "L"]
        found[start:end] = [name if scheme == "plain" else f"{part}-{name}" for part in inner]
        last = (name, end)
    return found
