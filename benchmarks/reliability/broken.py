"""Readers and a store that are broken on purpose: what they shift must be noticed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from mtlplug.data import pieces, sources
from mtlplug.data.readers import Record
from mtlplug.data.sources import Source
from mtlplug.data.store import FeatureWriter
from mtlplug.formats import Feature

Values = dict[Any, Any]
NEXT = {"good": "bad", "bad": "mixed", "mixed": "good", 0: 1, 1: 2, 2: 0}


def tags_moved(record: Values) -> Values:
    """Every word has its neighbour's tag."""
    return record | {-1: [*record[-1][1:], record[-1][0]]}


def labels_moved(record: Values) -> Values:
    """Every text has the next label."""
    key = "label" if "label" in record else "kind"
    return record | {key: NEXT[record[key]]}


def answers_moved(record: Values) -> Values:
    """Every answer begins and ends one character later."""
    starts = [start + 1 for start in record["answers"]["answer_start"]]
    texts = [
        record["context"][start : start + len(text)]
        for start, text in zip(starts, record["answers"]["text"], strict=True)
    ]
    return record | {"answers": {"text": texts, "answer_start": starts}}


READERS: Mapping[str, tuple[str, Callable[[Values], Values]]] = {
    "CoNLL": ("conll", tags_moved),
    "JSONL": ("jsonl", labels_moved),
    "TSV": ("tsv", labels_moved),
    "SQuAD": ("squad", answers_moved),
    "MRQA": ("mrqa", answers_moved),
}


@contextmanager
def reader(kind: str) -> Iterator[None]:
    """The reader of a kind of input shifts labels by one."""
    name, shift = READERS[kind]
    whole = sources.ALL_READERS[name]

    def shifting(source: Source) -> Iterator[Record]:
        return ((shift(values), where) for values, where in whole(source))

    with patch.dict(sources.ALL_READERS, {name: shifting}):
        yield


class Shifting(FeatureWriter):
    """Stores targets that are off by one from their references."""

    def add(self, feature: Feature) -> None:
        """Append one feature, shifted."""
        target = list(feature.target)
        if len(target) == 1:  # a class
            target = [1 - min(1, target[0])]
        elif len(target) == len(feature.reads):  # tags
            target = [*target[1:], target[0]]
        elif target[0] > 0:  # first and last row of an answer
            target = [min(row + 1, len(feature.reads) - 1) for row in target]
        super().add(dataclasses.replace(feature, target=target))


@contextmanager
def store() -> Iterator[None]:
    """Whatever is stored has targets off by one."""
    with patch.object(pieces, "FeatureWriter", Shifting):
        yield
