"""An invented world: rivers, towns, companies and people, with facts that hang together.

The world has two banks. Texts for training speak of one bank, texts for validation of the
other: no person, town, river, company or event is on both, though their names are made from
the same parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from mtlplug.demo import words


@dataclass(frozen=True)
class River:
    """A river, the hills it comes from and its length in miles."""

    name: str
    hills: str
    length: int


@dataclass(frozen=True)
class Event:
    """A yearly event of a town."""

    name: str
    month: str
    since: int
    prize: str


@dataclass(frozen=True)
class Town:
    """A town on a river."""

    name: str
    river: River
    founded: int
    inhabitants: int
    goods: str
    mayor: str
    event: Event


@dataclass(frozen=True)
class Company:
    """A company in a town."""

    name: str
    town: Town
    product: str
    founder: str
    founded: int
    workers: int


@dataclass(frozen=True)
class Person:
    """A person, with a home, a job and an employer."""

    name: str
    is_she: bool
    job: str
    home: Town
    birthplace: str
    born: int
    company: Company
    joined: int
    hobby: str


@dataclass(frozen=True)
class World:
    """One bank of the world."""

    people: tuple[Person, ...]

    def scene(self, rng: Random) -> dict[str, str]:
        """Facts around one person, by slot name, with passers-by for the rest of a sentence."""
        person, other, third = rng.sample(self.people, 3)
        return {
            **_person_facts(person),
            "other": other.name,
            "other_job": other.job,
            "other_town": other.home.name,
            "other_river": other.home.river.name,
            "other_company": other.company.name,
            "other_product": other.company.product,
            "other_event": other.home.event.name,
            "third": third.name,
            "third_town": third.home.name,
            "day": rng.choice(words.DAYS),
            "other_day": rng.choice(words.DAYS),
            "season": rng.choice(words.SEASONS),
            "number": rng.choice(words.NUMBERS),
            "amount": rng.choice(words.AMOUNTS),
            "other_amount": rng.choice(words.AMOUNTS),
            "other_goods": other.home.goods,
            "date": f"{rng.randint(1, 28)} {rng.choice(words.MONTHS)}",
            "miles": str(rng.randint(3, 60)),
            "price": str(rng.randint(2, 90)),
        }


def build(rng: Random, taken: set[str], people: int) -> World:
    """One bank of the world; the names it uses are added to `taken`, and none of those is used.

    Args:
        rng: where all chance comes from.
        taken: names in use.
        people: how many people live there; the rest follows from it.
    """
    names = _Names(rng, taken)
    hills = [names.hills() for _ in range(people // 50)]
    rivers = [
        River(names.river(), rng.choice(hills), rng.randint(20, 240)) for _ in range(people // 12)
    ]
    towns = [_town(rng, names, rivers) for _ in range(people // 4)]
    companies = [_company(rng, names, towns) for _ in range(people // 3)]
    return World(tuple(_person(rng, names, towns, companies) for _ in range(people)))


def _town(rng: Random, names: _Names, rivers: Sequence[River]) -> Town:
    founded = rng.randint(1040, 1780)
    event = Event(
        names.event(), rng.choice(words.MONTHS), rng.randint(founded, 1960), rng.choice(words.GOODS)
    )
    inhabitants = rng.randint(5, 190) * 100
    mayor, _ = names.person()
    return Town(
        names.town(),
        rng.choice(rivers),
        founded,
        inhabitants,
        rng.choice(words.GOODS),
        mayor,
        event,
    )


def _company(rng: Random, names: _Names, towns: Sequence[Town]) -> Company:
    town = rng.choice(towns)
    founder, is_she = names.person()
    product, trade = rng.choice(words.TRADES)
    surname = founder.split()[-1]
    heirs = "Daughters" if is_she else "Sons"
    firsts = surname, town.river.name, town.name
    name = names.company((f"{surname} & {heirs}", *(f"{first} {trade}" for first in firsts)))
    return Company(name, town, product, founder, rng.randint(1800, 1985), rng.randint(2, 60) * 5)


def _person(
    rng: Random, names: _Names, towns: Sequence[Town], companies: Sequence[Company]
) -> Person:
    name, is_she = names.person()
    home, birth = rng.sample(towns, 2)
    born = rng.randint(1935, 1995)
    return Person(
        name,
        is_she,
        rng.choice(words.JOBS),
        home,
        birth.name,
        born,
        rng.choice(companies),
        born + rng.randint(18, 28),
        rng.choice(words.HOBBIES),
    )


def _person_facts(person: Person) -> dict[str, str]:
    company = person.company
    return {
        **_town_facts(person.home),
        "person": person.name,
        "first": person.name.split()[0],
        "surname": person.name.split()[-1],
        "they": "she" if person.is_she else "he",
        "their": "her" if person.is_she else "his",
        "job": person.job,
        "birthplace": person.birthplace,
        "born": str(person.born),
        "joined": str(person.joined),
        "hobby": person.hobby,
        "company": company.name,
        "company_town": company.town.name,
        "product": company.product,
        "founder": company.founder,
        "company_year": str(company.founded),
        "workers": str(company.workers),
    }


def _town_facts(town: Town) -> dict[str, str]:
    return {
        "town": town.name,
        "river": town.river.name,
        "hills": town.river.hills,
        "length": str(town.river.length),
        "town_year": str(town.founded),
        "inhabitants": f"{town.inhabitants:,}",
        "goods": town.goods,
        "mayor": town.mayor,
        "event": town.event.name,
        "month": town.event.month,
        "event_year": str(town.event.since),
        "prize": town.event.prize,
    }


class _Names:
    """Makes names from parts, each only once."""

    def __init__(self, rng: Random, taken: set[str]) -> None:
        self._rng = rng
        self._taken = taken

    def person(self) -> tuple[str, bool]:
        """A full name, and whether it is a woman's."""
        is_she = self._rng.random() < 0.5
        firsts = words.SHE if is_she else words.HE

        def make() -> str:
            first = self._rng.choice(firsts)
            middle = f" {self._rng.choice('ABCDEFGHJLMPRSTW')}." if self._rng.random() < 0.1 else ""
            return f"{first}{middle} {self._join(words.SURNAME_STARTS, words.SURNAME_ENDS)}"

        return self._new(make), is_she

    def town(self) -> str:
        def make() -> str:
            name = self._join(words.TOWN_STARTS, words.TOWN_ENDS)
            first = self._rng.choice(words.TOWN_FIRST_WORDS)
            return f"{first} {name}" if self._rng.random() < 0.2 else name

        return self._new(make)

    def river(self) -> str:
        return self._new(lambda: self._join(words.RIVER_STARTS, words.RIVER_ENDS))

    def hills(self) -> str:
        return self._new(
            lambda: " ".join(map(self._rng.choice, (words.HILL_STARTS, words.HILL_KINDS)))
        )

    def event(self) -> str:
        parts = words.EVENT_FIRST_WORDS, words.EVENT_THEMES, words.EVENT_KINDS
        return self._new(lambda: " ".join(map(self._rng.choice, parts[self._rng.random() < 0.7 :])))

    def company(self, choices: Sequence[str]) -> str:
        return self._new(lambda: self._rng.choice(choices))

    def _join(self, starts: Sequence[str], ends: Sequence[str]) -> str:
        """A start and an end that look well together: not "Millley"."""
        while True:
            start, end = self._rng.choice(starts), self._rng.choice(ends)
            if start[-1] != end[0]:
                return start + end

    def _new(self, make: Callable[[], str]) -> str:
        while (name := make()) in self._taken:
            pass
        self._taken.add(name)
        return name
