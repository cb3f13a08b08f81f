"""Tools for the metrics of formats: guesses to compare with, and tables about mistakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mtlplug.formats import IGNORE


@dataclass(frozen=True)
class Detail:
    """A table that a format makes about its predictions.

    Attributes:
        title: for people.
        header: names of the columns; the first holds words.
        rows: texts and numbers, each row as wide as the header.
        note: a sentence below it.
    """

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str | float | int, ...]]
    note: str = ""


def metrics_of_guesses(
    metrics: Callable[[list[list[str]]], dict[str, float]],
    labels: Sequence[str],
    targets: Sequence[npt.NDArray[Any]],
    sizes: Sequence[int],
    draws: int = 20,
) -> dict[str, dict[str, float]]:
    """`TaskFormat.baselines` of a format that predicts labels.

    Args:
        metrics: of guesses: for each reference as many names of labels as `sizes` says.
        labels: their names; targets count from 0, and `IGNORE` is not counted.
        targets: of the training features.
        sizes: labels of each reference.
        draws: over which the metrics of chance are averaged.
    """
    numbers = np.concatenate(targets)
    counts = np.bincount(numbers[numbers != IGNORE], minlength=len(labels))
    generator = np.random.default_rng(0)
    names = np.array(labels, dtype=object)
    cuts = np.cumsum(sizes)[:-1]
    drawn = [
        metrics(
            [
                part.tolist()
                for part in np.split(
                    generator.choice(names, sum(sizes), p=counts / counts.sum()), cuts
                )
            ]
        )
        for _ in range(draws)
    ]
    most = labels[int(counts.argmax())]
    return {"chance": mean_metrics(drawn), "majority": metrics([[most] * size for size in sizes])}


def mean_metrics(drawn: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every metric over several draws."""
    return {key: float(np.mean([each[key] for each in drawn])) for key in drawn[0]}


LABEL_COLUMNS = ("label", "precision", "recall", "f1", "in gold")
"""Header of a table of labels."""

MOST_CONFUSIONS = 20
"""Rows of a table of confusions."""


def precision_recall_f1(right: int, given: int, wanted: int) -> tuple[float, float, float]:
    """In percent; 0 where there is nothing to divide by.

    >>> precision_recall_f1(1, 2, 4)
    (50.0, 25.0, 33.33333333333333)
    """
    precision, recall = 100 * right / max(given, 1), 100 * right / max(wanted, 1)
    return precision, recall, 100 * 2 * right / max(given + wanted, 1)


def confusions(pairs: Mapping[tuple[str, str], int]) -> Detail:
    """The most frequent mistakes as a table, from counts of (gold, prediction)."""
    wrong = [(*pair, number) for pair, number in pairs.items() if pair[0] != pair[1] and number]
    wrong.sort(key=lambda each: (-each[2], each[:2]))
    more = len(wrong) - MOST_CONFUSIONS
    note = f"and {more} more" if more > 0 else ""
    header = ("gold", "predicted", "times")
    return Detail("confusions", header, wrong[:MOST_CONFUSIONS], note)
