"""Predictions for rows without gold: several heads in one pass of the encoder, packed, in a stream.

Rows are taken in portions of a bounded number of tokens, so that memory does not grow with them.
Within a portion each different sequence is encoded once, whatever the tasks and rows that need it.

Shapes: T tokens, L tokens of one sequence, D hidden width, R rows read of one row's features.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from mtlplug.batching.splitting import micro_batches
from mtlplug.batching.stream import TokenStream
from mtlplug.data.tokens import Encoded
from mtlplug.errors import MtlplugError, unknown
from mtlplug.formats import Feature, Row, Task
from mtlplug.inference.trained import TrainedRun
from mtlplug.ragged import Splits

TOKENS_AT_ONCE = 32768
"""Tokens of different sequences held at a time: enough of equal length meet, little memory."""

MAX_TOKENS = {"cpu": 2048, "cuda": 4096}
"""Tokens of a micro-batch, by kind of device: on a CPU more of them leave its caches."""

Presented = dict[str, Any]
"""What `TaskFormat.present` gives, by task."""


class Portion(NamedTuple):
    """Rows that are predicted together.

    Attributes:
        rows: for each row and task, the row as its format takes it, and its features.
        sequences: the different sequences of all features, by what tells them apart.
    """

    rows: list[dict[str, tuple[Row, list[Feature]]]]
    sequences: dict[bytes, Encoded]


class Predictor:
    """Predicts with some heads of a run.

    Args:
        run: opened.
        tasks: names of those whose heads are wanted.
        options: values for options of their formats, other than those of the training.

    Attributes:
        rows: read so far.

    Raises:
        MtlplugError: a task is unknown, or none of the tasks has one of these options.
    """

    def __init__(
        self, run: TrainedRun, tasks: Iterable[str], options: Mapping[str, Any] | None = None
    ) -> None:
        self.run = run
        self.tasks: dict[str, Task] = {}
        for name in dict.fromkeys(tasks):
            if name not in run.tasks:
                raise unknown("task of the run", name, run.tasks)
            self.tasks[name] = run.tasks[name]
        known = {key for task in self.tasks.values() for key in task.options}
        for key, value in (options or {}).items():
            if key not in known:
                raise unknown("option of these tasks", key, known)
            self._set(key, value)
        self.encodes = {name: run.builder().encode(task) for name, task in self.tasks.items()}
        self.rows = 0
        # Heads get one row's features at a time, and a device is slow at many small things.
        self.heads = {name: copy.deepcopy(run.heads[name]).cpu() for name in self.tasks}
        self._borrowed = {name: self._lent(name) for name in self.tasks}

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """What was cut or dropped so far, by task: each counts a row for itself."""
        return {name: dict(each.counts) for name, each in self.encodes.items() if each.counts}

    def __call__(self, rows: Iterable[Row]) -> Iterator[Presented]:
        """Predictions for rows, in their order; a task that can make nothing of a row gives None.

        Raises:
            MtlplugError: a row lacks what a format needs.
        """
        for portion in self._portions(rows):
            with torch.inference_mode():
                hidden = self._encoded(portion.sequences)
                predictions = [
                    {name: self._present(name, *each, hidden) for name, each in row.items()}
                    for row in portion.rows
                ]
            yield from predictions

    def _set(self, key: str, value: Any) -> None:
        for name, task in self.tasks.items():
            if key in task.options:
                wanted = type(task.options[key])
                if type(value) is not wanted and not (wanted is float and type(value) is int):
                    raise MtlplugError(
                        f"option {key} is {value!r}; it should be a {wanted.__name__}, as "
                        f"{task.options[key]!r}, which task '{name}' was trained with"
                    )
                changed = {**task.options, key: value}
                self.tasks[name] = dataclasses.replace(task, options=changed)

    def _lent(self, name: str) -> dict[str, Tensor]:
        """What a head borrows of the encoder, beside the head."""
        lent = self.run.encoder.lent(self.run.formats[name].borrows)
        return {key: parameter.detach().cpu() for key, parameter in lent.items()}

    def _portions(self, rows: Iterable[Row]) -> Iterator[Portion]:
        portion, tokens = Portion([], {}), 0
        for number, row in enumerate(rows):
            made = {name: self._features(name, row, first=number == 0) for name in self.tasks}
            self.rows += 1
            portion.rows.append(made)
            for _, features in made.values():
                for sequence in (each for feature in features for each in feature.sequences):
                    key = _key(sequence)
                    if key not in portion.sequences:
                        portion.sequences[key] = sequence
                        tokens += len(sequence)
            if tokens >= TOKENS_AT_ONCE:
                yield portion
                portion, tokens = Portion([], {}), 0
        if portion.rows:
            yield portion

    def _features(self, name: str, row: Row, *, first: bool) -> tuple[Row, list[Feature]]:
        """The features of one row: made by itself, so that it is known whose they are."""
        task, task_format = self.tasks[name], self.run.formats[name]
        given = row
        try:
            row = task_format.unlabelled(task, row)
            encode = self.encodes[name].part(self.rows)
            features = list(task_format.features(task, [row], encode))
            self.encodes[name].counts.update(encode.counts)
            if first and not features and not {*task_format.columns[:1]} <= {*row}:
                raise MtlplugError(
                    f"{row.where}: there is no column '{task_format.columns[0]}' but "
                    f"{', '.join(map(str, given))}; name the one that holds it "
                    f"(--column {task_format.columns[0]}=NAME)"
                )
            return row, features
        except MtlplugError as error:
            raise MtlplugError(f"task '{name}': {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise MtlplugError(
                f"{row.where}: format {task_format.code} of task '{name}' cannot use this row "
                f"({type(error).__name__}: {error}); it has: {', '.join(map(str, row))}; "
                f"the format reads: {', '.join(task_format.columns)}"
            ) from error

    def _encoded(self, sequences: Mapping[bytes, Encoded]) -> dict[bytes, Tensor]:
        """Hidden states of each sequence, on the CPU. *Shape:* (L, D) each."""
        keys = list(sequences)
        lengths = np.array([len(sequences[key]) for key in keys])
        hidden: dict[bytes, Tensor] = {}
        most = MAX_TOKENS.get(self.run.device.type, MAX_TOKENS["cuda"])
        for part in micro_batches(lengths, most) if keys else []:
            mine = [keys[number] for number in part]
            stream = TokenStream.of(
                [sequences[key].ids for key in mine], [sequences[key].types for key in mine]
            )
            hidden_TD = self.run.encoder(stream.to(self.run.device)).float().cpu()
            hidden.update(zip(mine, hidden_TD.split(list(stream.lengths)), strict=True))
        return hidden

    def _present(
        self, name: str, row: Row, features: Sequence[Feature], hidden: Mapping[bytes, Tensor]
    ) -> Any:
        if not features:
            return None
        reads = [
            torch.cat([hidden[_key(each)] for each in feature.sequences])[reads_R]
            for feature in features
            for reads_R in [np.array(feature.reads, dtype=np.int64)]  # maybe none
        ]
        splits = Splits.of(len(part) for part in reads)
        scores = self.heads[name](torch.cat(reads), splits, **self._borrowed[name])
        scores = tree_map(_float, scores)
        task_format = self.run.formats[name]
        return task_format.present(self.tasks[name], row, features, scores, splits)


def as_rows(rows: Iterable[Any]) -> Iterator[Row]:
    """Rows of what users have: mappings, or plain texts.

    Raises:
        MtlplugError: one is neither.
    """
    for number, row in enumerate(rows, 1):
        where = f"row {number}"
        if isinstance(row, Row):
            yield row
        elif isinstance(row, str):
            yield Row({"text": row}, where)
        elif isinstance(row, Mapping):
            yield Row(row, where)
        else:
            raise MtlplugError(f"{where} is {row!r:.60}; give a text, or columns by name")


def _key(sequence: Encoded) -> bytes:
    """What tells sequences apart: ids and types."""
    return sequence.ids.tobytes() + sequence.types.tobytes()


def _float(leaf: Any) -> Any:
    return leaf.float() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf
