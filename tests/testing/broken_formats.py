"""A sound format, and others that each break one part of the contract."""

from __future__ import annotations

import random
from collections.abc import Iterator
from math import nan
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from mtlplug.formats import Feature, Row, TaskFormat
from mtlplug.heads import SequenceHead


class Sound(TaskFormat):
    """A number for a text; what the others break one part of."""

    code, title, headline = "N", "number", "near"
    columns = ("text", "n")

    def features(self, task: Any, rows: Any, encode: Any) -> Iterator[Feature]:
        """Read the first token."""
        for row in rows:
            (encoded,) = encode.texts([(row.value("text", str), None)])
            number = row.value("n", float)
            yield Feature((encoded,), self.reads(encoded), [number], number)

    def reads(self, encoded: Any) -> list[int]:
        """The first token."""
        return [0]

    def head(self, task: Any, hidden_size: int) -> nn.Module:
        """One number."""
        return SequenceHead(hidden_size, 1)

    def loss(self, scores: Any, targets: Tensor, splits: Any) -> Tensor:
        """Squared error."""
        return mse_loss(scores[:, 0], targets, reduction="none")

    def decode(self, task: Any, scores: Any, splits: Any) -> list[Any]:
        """The number."""
        return [float(score) for score in scores[:, 0]]

    def metrics(self, task: Any, predictions: Any, references: Any) -> dict[str, float]:
        """Share of numbers that are near."""
        near = [abs(a - b) < 0.5 for a, b in zip(predictions, references, strict=True)]
        return {"near": 100 * sum(near) / len(near)}


class ReadsBeyond(Sound):
    """Counts tokens from 1."""

    def reads(self, encoded: Any) -> list[int]:
        """One too far."""
        return [len(encoded)]


class ReadsAll(Sound):
    """Holds the whole dataset."""

    def features(self, task: Any, rows: Any, encode: Any) -> Iterator[Feature]:
        """Not before the last row is read."""
        yield from super().features(task, list(rows), encode)


class Draws(Sound):
    """Targets are drawn anew at each call."""

    def features(self, task: Any, rows: Any, encode: Any) -> Iterator[Feature]:
        """With a random target."""
        for feature in super().features(task, rows, encode):
            yield Feature(feature.sequences, [0], [random.random()], feature.reference)


class Trusts(Sound):
    """Takes every value for a number."""

    def features(self, task: Any, rows: Any, encode: Any) -> Iterator[Feature]:
        """Without a look at the values."""
        for row in rows:
            (encoded,) = encode.texts([(str(row["text"]), None)])
            yield Feature((encoded,), [0], [float(row["n"])], row["n"])


class Drops(Sound):
    """Leaves rows without text out and says nothing."""

    def features(self, task: Any, rows: Any, encode: Any) -> Iterator[Feature]:
        """Of rows with a text."""
        yield from super().features(task, (row for row in rows if row["text"].strip()), encode)


class DropsLong(Sound):
    """Leaves rows out that do not fit, and lets `encode.texts` say that texts were cut."""

    def features(self, task: Any, rows: Any, encode: Any) -> Iterator[Feature]:
        """Of rows that are whole."""
        for feature in super().features(task, rows, encode):
            if not feature.sequences[0].truncated:
                yield feature


class LosesWords(Sound):
    """Has a target for each token, and says nothing of those of tokens that were cut."""

    def features(self, task: Any, rows: Any, encode: Any) -> Iterator[Feature]:
        """Read all tokens."""
        for feature in super().features(task, rows, encode):
            places = range(len(feature.sequences[0]))
            yield Feature(feature.sequences, places, [*places], [*places])


class Reduces(Sound):
    """Gives the mean loss."""

    def loss(self, scores: Any, targets: Tensor, splits: Any) -> Tensor:
        """One number for all."""
        return mse_loss(scores[:, 0], targets)


class Mixes(Sound):
    """Spreads the mean loss over the features: the right shape, and wrong."""

    def loss(self, scores: Any, targets: Tensor, splits: Any) -> Tensor:
        """The same number for each."""
        return mse_loss(scores[:, 0], targets).expand(len(splits))


class Misreads(Sound):
    """Decodes otherwise than the loss teaches."""

    def decode(self, task: Any, scores: Any, splits: Any) -> list[Any]:
        """With the sign turned round."""
        return [-float(score) for score in scores[:, 0]]


class Flatters(Sound):
    """Finds every prediction right."""

    def metrics(self, task: Any, predictions: Any, references: Any) -> dict[str, float]:
        """Without a look at them."""
        return {"near": 100.0}


class Deaf(Sound):
    """Learns nothing: the loss has a gradient, which is zero."""

    def loss(self, scores: Any, targets: Tensor, splits: Any) -> Tensor:
        """Squared error of nothing."""
        return mse_loss(0 * scores[:, 0], targets, reduction="none")


class Lucky(Sound):
    """Asks for the sign alone, and has a head that begins with the right one for all rows."""

    def head(self, task: Any, hidden_size: int) -> nn.Module:
        """Above zero from the start."""
        head = SequenceHead(hidden_size, 1)
        nn.init.constant_(head.projection.bias, 1.0)
        return head

    def metrics(self, task: Any, predictions: Any, references: Any) -> dict[str, float]:
        """Share of right signs."""
        right = [(a > 0) == (b >= 0) for a, b in zip(predictions, references, strict=True)]
        return {"near": 100 * sum(right) / len(right)}


class Undefined(Sound):
    """Divides by the spread of the references."""

    def metrics(self, task: Any, predictions: Any, references: Any) -> dict[str, float]:
        """NaN where all references are one."""
        spread = max(references) - min(references)
        return {"near": super().metrics(task, predictions, references)["near"] if spread else nan}


class Idle(SequenceHead):
    """Has a layer that no score depends on."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__(hidden_size, 1)
        self.spare = nn.Linear(2, 2)


class Forgets(SequenceHead):
    """Scores depend on a number that is no part of its state."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__(hidden_size, 1)
        self.shift = float(torch.randn(()))

    def forward(self, rows_RD: Tensor, splits: Any) -> Tensor:
        """Shifted."""
        return super().forward(rows_RD, splits) + self.shift


class WithIdle(Sound):
    """Its head is `Idle`."""

    def head(self, task: Any, hidden_size: int) -> nn.Module:
        """With a spare layer."""
        return Idle(hidden_size)


class WithForgets(Sound):
    """Its head is `Forgets`."""

    def head(self, task: Any, hidden_size: int) -> nn.Module:
        """With a memory outside its state."""
        return Forgets(hidden_size)


class Keeps(Sound):
    """Fills the gold's column only where there is one."""

    def unlabelled(self, task: Any, row: Row) -> Row:
        """A number, or none."""
        return row | {"n": -1.0 if "n" in row else None}


class Retells(Sound):
    """Changes the text where the gold is not known."""

    def unlabelled(self, task: Any, row: Row) -> Row:
        """With words more."""
        return row | {"n": -1.0, "text": f"{row.get('text', '')} in town"}


class ShowsTensors(Sound):
    """Shows what only torch can read."""

    def present(self, task: Any, row: Any, features: Any, scores: Any, splits: Any) -> Any:
        """A tensor."""
        return {"number": scores[0, 0]}


class ShowsNothing(Sound):
    """Finds no row wrong."""

    def wanted_and_given(self, task: Any, predictions: Any, references: Any) -> tuple[str, str]:
        """Gold alone."""
        return str(references), str(references)


class ShowsDigits(Sound):
    """Finds every row wrong: learnt numbers are near, and never equal."""

    def wanted_and_given(self, task: Any, predictions: Any, references: Any) -> tuple[str, str]:
        """All digits."""
        return str(references[0]), str(predictions[0])


class Miscounts(Sound):
    """Counts rows, and not those that are near."""

    def row_counts(self, task: Any, predictions: Any, references: Any) -> Any:
        """One each."""
        return np.ones((len(references), 1))

    def metrics_of_counts(self, task: Any, counts_K: Any) -> dict[str, float]:
        """All near."""
        return {"near": 100.0}


class CountsFlat(Miscounts):
    """Forgets the second axis."""

    def row_counts(self, task: Any, predictions: Any, references: Any) -> Any:
        """One number for each row."""
        return np.ones(len(references))


class Newer(Sound):
    """Written for a contract that does not exist yet."""

    contract = 99
