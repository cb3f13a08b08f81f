"""What the built-in formats say about their predictions in detail."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mtlplug.formats import Task, TaskFormat
from mtlplug.plugin_manager import load_plugins
from mtlplug.scoring import MOST_CONFUSIONS, confusions

FORMATS = load_plugins().formats
TAGS = ["O", "O", "B-X", "I-X", "B-Y", "I-Y"]


def labels_of(count: int, draw: random.Random) -> tuple[Task, list[Any], list[Any]]:
    """A classifier's predictions; gold has a label that training had not."""
    task = Task("t", "C", labels=("a", "b", "c")[:count])
    gold = [draw.choice(["a", "b", "c", "alien"][: count + 1]) for _ in range(40)]
    return task, [draw.choice(task.labels) for _ in gold], gold


def tags(draw: random.Random) -> tuple[Task, list[Any], list[Any]]:
    """A labeller's predictions; some words were cut off."""
    gold, ours = [], []
    for _ in range(30):
        length = draw.randint(1, 9)
        words = list(range(draw.randint(1, length)))
        gold.append({"tags": [draw.choice(TAGS) for _ in range(length)], "words": words})
        ours.append([draw.choice(TAGS) for _ in words])
    return Task("t", "SL", labels=tuple(sorted(set(TAGS)))), ours, gold


def spans(draw: random.Random) -> tuple[Task, list[Any], list[Any]]:
    """A reader's predictions; questions of one to three windows, some without an answer."""
    task = Task("t", "QA", options={"no_answer_threshold": 0.0}, facts={"unanswerable": True})
    gold, ours = [], []
    for row in range(30):
        answers = draw.choice([[], ["the red fox"], ["fox"]])
        for _ in range(draw.randint(1, 3)):
            context = "the red fox ran"
            reference = {"row": row, "answers": answers, "context": context}
            gold.append({**reference, "offsets": [0, 3, 4, 7, 8, 11, 12, 15]})
            first = draw.randint(1, 4)
            span = [first, draw.randint(first, 4), draw.random()]
            ours.append({"none": draw.random(), "spans": [span]})
    return task, ours, gold


def drawn(kind: str, seed: int) -> tuple[TaskFormat, Task, list[Any], list[Any]]:
    """Predictions of one kind at random."""
    draw = random.Random(seed)
    if kind in ("two", "three"):
        return FORMATS["C"], *labels_of(2 if kind == "two" else 3, draw)
    return (FORMATS["SL"], *tags(draw)) if kind == "tags" else (FORMATS["QA"], *spans(draw))


@pytest.mark.parametrize("kind", ["two", "three", "tags", "spans"])
@pytest.mark.parametrize("seed", range(5))
def test_counts_give_the_metrics(kind: str, seed: int) -> None:
    """The sum of the counts of rows gives what `metrics` gives, for parts of the rows too."""
    task_format, task, ours, gold = drawn(kind, seed)
    rows = [each.get("row", n) if isinstance(each, dict) else n for n, each in enumerate(gold)]
    grouped = [[n for n, row in enumerate(rows) if row == this] for this in dict.fromkeys(rows)]
    for part in (grouped, grouped[:7]):
        predictions = [[ours[n] for n in row] for row in part]
        references = [[gold[n] for n in row] for row in part]
        counts = task_format.row_counts(task, predictions, references)
        assert counts is not None
        assert len(counts) == len(part)
        flat = [n for row in part for n in row]
        expected = task_format.metrics(task, [ours[n] for n in flat], [gold[n] for n in flat])
        assert task_format.metrics_of_counts(task, counts.sum(0)) == pytest.approx(expected)


def test_labels_and_confusions() -> None:
    """Precision, recall and F1 of each label, and what is taken for what."""
    task = Task("t", "C", labels=("a", "b"))
    labels, confused = FORMATS["C"].detail(task, list("aabb"), list("abbb"))
    assert labels.rows == [("a", 50.0, 100.0, pytest.approx(200 / 3), 1),
                           ("b", 100.0, pytest.approx(200 / 3), 80.0, 3)]  # fmt: skip
    assert confused.rows == [("b", "a", 1)]
    assert FORMATS["C"].wanted_and_given(task, ["a"], ["b"]) == ("b", "a")


def test_entities() -> None:
    """Of the same words another type, of overlapping words, missed, made up."""
    gold = {"tags": ["B-X", "I-X", "O", "B-Y", "O", "B-X", "O"], "words": list(range(7))}
    ours = ["B-Y", "I-Y", "O", "B-Y", "I-Y", "O", "B-X"]
    task = Task("t", "SL")
    types, confused = FORMATS["SL"].detail(task, [ours], [gold])
    assert [(name, wanted) for name, *_, wanted in types.rows] == [("X", 2), ("Y", 1)]
    assert sorted(confused.rows) == [
        *[("X", "Y", 1), ("X", "nothing", 1), ("Y", "Y, other words", 1), ("nothing", "X", 1)]
    ]
    wanted, given = FORMATS["SL"].wanted_and_given(task, [ours], [gold])
    assert (wanted, given) == ("X 0-1, Y 3, X 5", "Y 0-1, Y 3-4, X 6")


def test_outcomes_of_questions() -> None:
    """Right, partly right, wrong, and "no answer" where there is one or none."""
    task_format, task, _, _ = drawn("spans", 0)
    reference = {"context": "the red fox ran", "offsets": [0, 3, 4, 7, 8, 11, 12, 15]}

    def predicted(first: int, last: int, none: float = 0.0) -> dict[str, Any]:
        return {"none": none, "spans": [[first, last, 0.5]]}

    cases = [
        (["fox"], predicted(3, 3)), (["fox"], predicted(2, 3)), (["fox"], predicted(4, 4)),
        (["fox"], predicted(3, 3, none=9.0)), ([], predicted(3, 3)),
        ([], predicted(3, 3, none=9.0)),
    ]  # fmt: skip
    gold = [{**reference, "row": row, "answers": answers} for row, (answers, _) in enumerate(cases)]
    (outcomes,) = task_format.detail(task, [each for _, each in cases], gold)
    assert {row[:3] for row in outcomes.rows} == {
        ("an answer", "the same", 1), ("an answer", "words of it", 1),
        ("an answer", "another one", 1), ("an answer", "no answer", 1),
        ("no answer", "an answer", 1), ("no answer", "no answer", 1),
    }  # fmt: skip
    said = [task_format.wanted_and_given(task, [each], [gold[n]]) for n, (_, each) in
            enumerate(cases)]  # fmt: skip
    assert said[0] == ("fox", "fox")
    assert said[1] == ("fox", "red fox")
    assert said[3] == ("fox", "no answer")
    assert said[4] == ("no answer", "fox")


def test_many_confusions() -> None:
    """The most frequent are kept, and the others counted."""
    pairs = {(f"g{n}", "p"): n for n in range(1, MOST_CONFUSIONS + 4)}
    found = confusions(pairs)
    assert len(found.rows) == MOST_CONFUSIONS
    assert found.rows[0][2] == MOST_CONFUSIONS + 3
    assert found.note == "and 3 more"
