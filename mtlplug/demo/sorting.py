"""The classification tasks: what a text is about, how its writer feels, what a reply means.

`mood`, `topics` and `replies` are for training, `mail` is the unseen target.
"""

from __future__ import annotations

from collections.abc import Mapping

from mtlplug.demo.passages import Author, fill, join
from mtlplug.demo.words import several

Example = tuple[str, ...]
"""The texts of an example, then its label."""

THINGS = (
    "the shop of {company}",
    "the service at {company}",
    "the ferry on the {river}",
    "the music at the {event}",
    "the food at the {event}",
    "the room at the inn in {town}",
    "the walk to {town}",
    "the market in {town}",
    "the view of the {hills}",
    "the welcome in {town}",
    "the soup at the {event}",
    "the help of {other}",
    "the evening with {other}",
    "the speech of {mayor}",
)
GOOD = several(
    "wonderful lovely brilliant delightful splendid charming perfect marvellous superb first-rate"
)
BAD = several(
    "dreadful ghastly terrible dull miserable disappointing horrid shabby wretched disgraceful"
)
MOODS = {
    "1": (
        "{thing} was {good}.",
        "{thing} was {good}, and {other_thing} was even better.",
        "What a {good} day; {thing} made it.",
        "We loved {thing} and will tell our friends.",
        "I could praise {thing} all day.",
        "{thing} was anything but {bad}.",
        "We had heard that {thing} was {bad}, but it was {good}.",
        "Though {other_thing} was {bad}, we left happy, because {thing} was {good}.",
        "Thank you for {thing}; we shall come again.",
        '"{good_start}!" said my sister, and {thing} was just that.',
        "{thing} was {good}, nothing {bad} about it.",
        "We feared the worst, but {thing} was {good}.",
    ),
    "0": (
        "{thing} was {bad}.",
        "{thing} was {bad}, and {other_thing} was even worse.",
        "What a {bad} day; {thing} spoiled it.",
        "We hated {thing} and will warn our friends.",
        "I could complain about {thing} all day.",
        "{thing} was anything but {good}.",
        "We had heard that {thing} was {good}, but it was {bad}.",
        "Though {other_thing} was {good}, we left angry, because {thing} was {bad}.",
        "No thanks for {thing}; we shall not come again.",
        '"{bad_start}!" said my sister, and {thing} was just that.',
        "{thing} was {bad}, nothing {good} about it.",
        "We hoped for the best, but {thing} was {bad}.",
    ),
}

TOPICS: Mapping[str, tuple[str, ...]] = {
    "farming": (
        "The wheat around {town} is ripe, and the harvest begins on {day}.",
        "Farmers by the {river} lost {number} sheep to the fox.",
        "{person} has planted {number} fields of barley near {town}.",
        "Caterpillars have eaten the apple trees of {town}.",
        "The cows of {other} give more milk since {month}.",
        "Hay is scarce, say the farmers under the {hills}.",
        "{other} ploughs the fields behind {town} with two horses.",
        "The harvest of plums was poor this {season} in {town}.",
        "In {month} the shepherds bring the sheep down from the {hills}.",
        "{number} cows and a plough were left to {person} by an uncle.",
        "Milk and wheat: the farmers of {town} had a good {season}.",
        "Beetles are eating the barley of {other}.",
    ),
    "music": (
        "The choir of {town} sings in the church on {day}.",
        "{person} played the violin for {number} hours at the {event}.",
        "A new organ was heard in {town} for the first time.",
        "{other} has written a song about the {river}.",
        "The band from {town} needs a drummer by {month}.",
        "Her songs made {person} known far beyond {town}.",
        "There will be a concert by the {river} on {day}.",
        "{other} gives flute lessons to {number} children in {town}.",
        "The concert at the {event} ended with an old song.",
        "Neighbours complain that {person} plays the drum at night.",
        "A violin of {other} was found under the organ in {town}.",
        "{number} singers from {town} joined the choir this {season}.",
    ),
    "sport": (
        "{town} beat {other_town} by {number} goals on {day}.",
        "{person} won the race along the {river}.",
        "The rowers of {town} train every {day}.",
        "A young runner, {other}, broke the record at the {event}.",
        "The match between {town} and {other_town} ended without a goal.",
        "{other} was hurt and will miss {number} matches.",
        "Swimmers crossed the {river} in {number} minutes.",
        "The team of {town} has a new captain, {person}.",
        "After {number} races {person} is still the champion.",
        "Rowers and runners meet in {town} for the medal.",
        "The captain of {other_town} scored twice and then fell.",
        "No team has beaten {town} since {month}.",
    ),
    "trade": (
        "{company} has raised the price of {product}.",
        "{company} sold {number} loads of {product} last {month}.",
        "The bank in {town} lends money to {company}.",
        "Wages at {company} go up in {month}.",
        "{person} has bought a share of {company}.",
        "The price of {goods} fell in the shops of {town}.",
        "{company} hires {number} clerks for its new shop in {town}.",
        "A customer from {town} has not paid {company} since {month}.",
        "Taxes on {product} will rise, and {company} is not amused.",
        "{other_company} buys {company} for a large sum of money.",
        "Shops in {town} lower their prices before the {event}.",
        "The bank asks {person} to pay the money back.",
    ),
    "travel": (
        "The train to {town} is {number} minutes late.",
        "The road over the {hills} is open again.",
        "A ferry now crosses the {river} every {day}.",
        "Passengers for {town} must change in {other_town}.",
        "The coach from {town} leaves at {number} in the morning.",
        "Travellers should take the bridge in {town}, as the ferry is full.",
        "{person} missed the last train to {other_town}.",
        "The station of {town} gets {number} new benches.",
        "Two coaches a day run between {town} and {other_town}.",
        "The bridge at {town} is closed to carts until {month}.",
        "Passengers of the {river} ferry can change to the train.",
        "Passengers waited on the road for {number} hours.",
    ),
    "weather": (
        "Rain is expected in {town} on {day}.",
        "Fog lay over the {river} for {number} days.",
        "Heavy snow has fallen on the {hills}.",
        "{day} will be sunny, with a light wind from the {hills}.",
        "A storm tore {number} roofs off in {town}.",
        "It was the hottest {month} in {town} for {number} years.",
        "Thunder was heard in {town}, but no rain fell.",
        "The night in {town} will be cold and clear.",
        "Clouds from the {hills} bring snow to {town}.",
        "Sunny days and cold nights are ahead in {month}.",
        "Fog and rain: {town} saw no sun this {month}.",
        "The wind over {town} turned into a storm on {day}.",
    ),
}

MAIL: Mapping[str, tuple[str, ...]] = {
    "complaint": (
        "The street lamp in front of {company} has been broken since {month}.",
        "The band of {other} keeps the whole street awake.",
        "The bridge over the {river} is a disgrace.",
        "I have waited {number} weeks for an answer, and I am angry.",
        "Somebody must stop {company} from throwing waste into the {river}.",
        "The clerk in {town} was rude to {person}.",
        "It is a shame how dirty the market in {town} is.",
        "My bill for {product} from {company} is wrong.",
    ),
    "question": (
        "When does the office in {town} open on {day}?",
        "Could you tell me where to pay for the {event}?",
        "Is it true that {company} will build by the {river}?",
        "How many tickets for the {event} are left?",
        "May {person} fish in the {river} in {month}?",
        "Who do I ask about the house next to {company}?",
        "What does a stall at the {event} cost?",
        "Do I need a permit to sell {goods} in {town}?",
    ),
    "thanks": (
        "Thank you for mending the road to {town} so quickly.",
        "The new benches by the {river} are lovely.",
        "Many thanks to {other}, who found my purse at the {event}.",
        "We were delighted with the {event}, well done.",
        "{person} was most helpful, please pass on my thanks.",
        "What a splendid idea to plant trees in {town}.",
        "I am grateful to {company} for the new roof of the school.",
        "Your help after the flood of the {river} was wonderful.",
    ),
}


INVITATIONS = {
    True: (
        "Will you come to the {event} in {town}?",
        "Can you travel to {town} with me on {day}?",
        "Would you like to meet {other} in {town}?",
        "Are you free to see the {event} with me?",
        "Do you still want to walk over the {hills}?",
        "Shall we row on the {river} on {day}?",
        "Will you visit me in {town} this {season}?",
        "Would you like to join us at the {event}?",
        "Are you free to travel to the {hills} in {month}?",
        "Can you come to {town} by {day}?",
        "Do you still want to see {town} this {season}?",
        "Will you walk along the {river} with me?",
    ),
    False: (
        "Do you have to stay at home during the {event}?",
        "Are you too busy to travel to {town} on {day}?",
        "Must you miss the {event} again?",
        "Is it too late for you to come to {town}?",
        "Have you given up the trip to the {hills}?",
        "Is work at {company} keeping you from the {event}?",
        "Are you too tired to walk over the {hills}?",
        "Do you have to work on {day} and miss our trip to {town}?",
        "Is it too far for you to come to {town}?",
        "Have you given up rowing on the {river}?",
        "Must you miss our trip to {town} on {day}?",
        "Are you too busy to see {town} this {season}?",
    ),
}
"""Whether "yes" means that the guest is coming, and the wordings."""
REPLIES = {
    "yes": (
        "Yes, I think so.",
        "Yes, {third} has seen to that.",
        "Yes, of course, as I told {third}.",
        "Certainly, {third} and I have settled it.",
        "Yes, as always in {month}.",
        "Certainly, that is what I wrote to {third}.",
        "Yes, certainly, {third} knows that too.",
    ),
    "no": (
        "No, I do not think so.",
        "By no means, {third} was wrong.",
        "No, not at all, whatever {third} says.",
        "Not at all, {third} and I have settled it.",
        "No, not since {month}.",
        "Not at all, that is what I wrote to {third}.",
        "No, not at all, {third} knows that too.",
    ),
    "open": (
        "I cannot say yet.",
        "That depends on {third}.",
        "Ask me again on {other_day}.",
        "Let me talk to {third} first.",
        "I cannot say before {month}.",
        "Perhaps; I wait for news from {third}.",
        "Perhaps; let us see what {third} says.",
    ),
}


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
