"""A format with a small task, a tokenizer and an encoder made on the spot from its rows.

Shapes: B features, R rows read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_map

from mtlplug.batching.micro_batch import MicroBatch
from mtlplug.batching.mixing import Members
from mtlplug.batching.packing import Packer
from mtlplug.data.build import TRAIN, Builder, TaskData
from mtlplug.data.store import FeatureStore, FeatureWriter
from mtlplug.data.tasks import task_from_table
from mtlplug.data.tokens import Encode
from mtlplug.demo.encoder import save_encoder, save_tokenizer
from mtlplug.formats import Feature, Row, Task, TaskFormat
from mtlplug.model.encoder import Encoder
from mtlplug.model.loading import load_tokenizer
from mtlplug.model.multitask import MultiTaskModel
from mtlplug.world import World

NAME = "contract"
"""Of the task, and of its twin with a number behind."""

WORD_PIECES = 60
"""Pieces of words that the tokenizer knows: words become several tokens, as real ones do."""

MAX_LENGTH = 128
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 256,
}


@dataclass(frozen=True)
class Outcome:
    """What a model makes of some features.

    Attributes:
        losses: of each feature, (B,).
        predictions: of each feature, JSON-like.
        scores: what the head gave for them.
    """

    losses: list[float]
    predictions: list[Any]
    scores: Any


class Specimen:
    """One format under test.

    Args:
        task_format: the format.
        table: the task as a suite has it: labels, options, metric.
        rows: of the training and the validation split alike.
        folder: for all files.
    """

    def __init__(
        self,
        task_format: TaskFormat,
        table: Mapping[str, Any],
        rows: Sequence[Mapping[str, Any]],
        folder: Path,
    ) -> None:
        self.format = task_format
        self.table = dict(table)
        self.rows = [dict(row) for row in rows]
        self.folder = folder
        self._stores = 0

    @cached_property
    def encoder_folder(self) -> Path:
        """Tokenizer and encoder: a BERT of two narrow layers, which knows the texts of the rows."""
        folder = self.folder / "encoder"
        texts = list(texts_of(self.rows)) or ["a b"]
        vocabulary = save_tokenizer(folder, texts, pieces=WORD_PIECES)
        save_encoder(folder, vocabulary, seed=0, sizes=SIZES)
        return folder

    def task(self, name: str = NAME, rows: Sequence[Mapping[str, Any]] | None = None) -> Task:
        """A task whose splits hold these rows; not prepared."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.jsonl"
        lines = [json.dumps(row) for row in (self.rows if rows is None else rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        table = self.table | {"format": self.format.code, "train": path.name, "valid": path.name}
        formats = {self.format.code: self.format}
        return task_from_table(name, table, formats, self.folder, f"task '{name}'")

    def build(self, task: Task, max_length: int = MAX_LENGTH) -> TaskData:
        """The task, prepared, with stored features."""
        return self.builder(max_length).build(task, self.format, [TRAIN, "valid"])

    def builder(self, max_length: int = MAX_LENGTH) -> Builder:
        """What makes the features."""
        return Builder(
            tokenizer=load_tokenizer(str(self.encoder_folder)),
            cache=self.folder / "cache",
            max_length=max_length,
            limit=SIZES["max_position_embeddings"],
        )

    @cached_property
    def data(self) -> TaskData:
        """The task with the features of all rows."""
        return self.build(self.task())

    def features(
        self, rows: Iterable[Row], task: Task | None = None, encode: Encode | None = None
    ) -> list[Feature]:
        """What the format makes of rows, for the prepared task."""
        task = task or self.data.task
        encode = encode or self.builder().encode(task)
        return list(self.format.features(task, iter(rows), encode))

    def placed(self, rows: Sequence[Mapping[str, Any]] | None = None) -> list[Row]:
        """Rows that know their place."""
        rows = self.rows if rows is None else rows
        return [Row(row, f"row {number}") for number, row in enumerate(rows)]

    def stored(self, features: Sequence[Feature], task: Task | None = None) -> TaskData:
        """Features as a run has them."""
        folder = self.folder / "stores" / str(self._stores)
        self._stores += 1
        writer = FeatureWriter(folder, references=True)
        try:
            for feature in features:
                writer.add(feature)
        finally:
            writer.close({"rows": len(features), "counts": {}})
        store = FeatureStore(folder)
        return TaskData(task or self.data.task, self.format, {TRAIN: store, "valid": store})

    def model(self, task: Task | None = None, seed: int = 1, reads: int = 1) -> MultiTaskModel:
        """The encoder with a new head, in evaluation mode, the same for each seed."""
        encoder = Encoder.from_pretrained(str(self.encoder_folder))
        torch.manual_seed(seed)
        model = MultiTaskModel(encoder, [task or self.data.task], [self.format], [reads])
        return model.eval()


def texts_of(value: Any) -> Iterator[str]:
    """All texts inside a JSON-like value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from texts_of(list(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from texts_of(each)


def packed(data: TaskData, numbers: Sequence[int] | None = None) -> MicroBatch:
    """Features of a store as one micro-batch; its loss is their mean."""
    store = data.stores[TRAIN]
    numbers = range(len(store)) if numbers is None else numbers
    packer = Packer([store], [data.format], [1.0], max_tokens=1 << 30)
    features_B = np.array(numbers, dtype=np.int64)
    return packer.pack(Members(np.zeros_like(features_B), features_B), len(features_B))


def outcome(
    model: MultiTaskModel,
    data: TaskData,
    numbers: Sequence[int] | None = None,
    *,
    turned: bool = False,
) -> Outcome:
    """Losses and predictions of features packed together, in the order of their numbers.

    Args:
        model: with the head.
        data: its features.
        numbers: of those that are packed; None for all.
        turned: predict from the scores with their signs turned round, which are as wrong as can be.
    """
    batch = packed(data, numbers)
    with torch.no_grad():
        output = model(batch)
    rows = batch.tasks[0]
    scores = tree_map(_negative, output.scores[0]) if turned else output.scores[0]
    predictions = data.format.decode(data.task, scores, rows.splits)
    told = World(0, 1, torch.device("cpu")).gather(predictions)[0]
    losses = output.losses[0].tolist()
    if len(told) != len(losses):
        raise AssertionError(f"decode gave {len(told)} predictions for {len(losses)} features")
    places = {int(number): place for place, number in enumerate(rows.features)}
    order = [places[number] for number in (sorted(places) if numbers is None else numbers)]
    return Outcome([losses[place] for place in order], [told[place] for place in order], scores)


def _negative(leaf: Any) -> Any:
    return -leaf if isinstance(leaf, torch.Tensor) else leaf
