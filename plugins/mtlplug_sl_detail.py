"""Sequence labelling in detail: entities right and wrong, of each row and of each type.

An entity is its first word, its last word and its type, read in strict IOB2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from seqeval.scheme import IOB2, Entities

from mtlplug.formats import Task, TaskFormat
from mtlplug.schemes import OUTSIDE
from mtlplug.scoring import LABEL_COLUMNS, Detail, confusions, precision_recall_f1

if TYPE_CHECKING:
    import numpy.typing as npt

Entity = tuple[int, int, str]
"""First word, last word and type."""


class EntityDetail(TaskFormat):
    """What is right and wrong, for formats that label words in IOB2."""

    def row_counts(
        self, task: Task, predictions: Sequence[Sequence[Any]], references: Sequence[Sequence[Any]]
    ) -> npt.NDArray[Any]:
        """Entities right, predicted and in gold, and words right and in all. *Shape:* (rows, 5)."""
        sentences = [_sentence(*each) for each in zip(predictions, references, strict=True)]
        return np.array(
            [
                [
                    len(gold & ours),
                    len(ours),
                    len(gold),
                    sum(map(str.__eq__, tags, given)),
                    len(tags),
                ]
                for (tags, given), gold, ours in zip(
                    sentences, *map(_entities, zip(*sentences, strict=True)), strict=True
                )
            ]
        )

    def metrics_of_counts(self, task: Task, counts_K: npt.NDArray[Any]) -> dict[str, float]:
        """Precision, recall, F1 and accuracy of words, as `metrics` has them."""
        right, given, wanted, words_right, words = counts_K.tolist()
        precision, recall, f1 = precision_recall_f1(right, given, wanted)
        accuracy = 100 * words_right / max(words, 1)
        return {"f1": f1, "precision": precision, "recall": recall, "accuracy": accuracy}

    def detail(
        self, task: Task, predictions: Sequence[Any], references: Sequence[Any]
    ) -> list[Detail]:
        """Precision, recall and F1 of each type of entity, and what happens to wrong ones.

        An entity of gold is taken for what lies on the same words; else for what overlaps it.
        """
        sentences = [_sentence([p], [r]) for p, r in zip(predictions, references, strict=True)]
        right, given, wanted = Counter[str](), Counter[str](), Counter[str]()
        pairs: Counter[tuple[str, str]] = Counter()
        for gold, ours in zip(*map(_entities, zip(*sentences, strict=True)), strict=True):
            right.update(kind for *_, kind in gold & ours)
            given.update(kind for *_, kind in ours)
            wanted.update(kind for *_, kind in gold)
            pairs.update(_mistakes(gold - ours, ours - gold))
        names = sorted({*given, *wanted})
        labels = [
            (name, *precision_recall_f1(right[name], given[name], wanted[name]), wanted[name])
            for name in names
        ]
        return [Detail("types of entities", LABEL_COLUMNS, labels), confusions(pairs)]

    def wanted_and_given(
        self, task: Task, predictions: Sequence[Any], references: Sequence[Any]
    ) -> tuple[str, str]:
        """The entities of a sentence, each with its first and last word's number."""
        gold, ours = map(_entities, ([each] for each in _sentence(predictions, references)))
        return _listed(gold[0]), _listed(ours[0])


def on_words(labels: Sequence[str], reference: Mapping[str, Any]) -> list[str]:
    """Labels of all words of a sentence; of a word read several times its first sub-token's."""
    tags = [OUTSIDE] * len(reference["tags"])
    for word, label in zip(reversed(reference["words"]), reversed(labels), strict=True):
        tags[word] = label
    return tags


def _sentence(predictions: Sequence[Any], references: Sequence[Any]) -> tuple[list[str], list[str]]:
    """The gold tags of a row and the predicted ones."""
    tags: list[str] = references[0]["tags"]
    return tags, on_words(predictions[0], references[0])


def _entities(sentences: Sequence[list[str]]) -> list[set[Entity]]:
    """The entities of sentences, in strict IOB2."""
    return [
        {(entity.start, entity.end - 1, entity.tag) for entity in entities}
        for entities in Entities(sentences, scheme=IOB2).entities
    ]


def _mistakes(missed: set[Entity], spurious: set[Entity]) -> Iterator[tuple[str, str]]:
    """Each wrong entity of gold or prediction once, as a pair of what it is and was taken for."""
    left = set(spurious)
    for start, end, kind in sorted(missed):
        same = [each for each in left if each[:2] == (start, end)]
        over = [each for each in left if each[0] <= end and start <= each[1]]
        for each in same or over[:1]:
            left.remove(each)
            yield kind, each[2] if same else f"{each[2]}, other words"
        if not (same or over):
            yield kind, "nothing"
    for *_, kind in left:
        yield "nothing", kind


def _listed(entities: set[Entity]) -> str:
    return ", ".join(
        f"{kind} {first}" if first == last else f"{kind} {first}-{last}"
        for first, last, kind in sorted(entities)
    )
