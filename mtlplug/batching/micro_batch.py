"""What goes through the model at once: a stream of tokens, and the rows each head reads of it.

The rows of all heads lie end to end, so that a micro-batch is built, pinned and copied to a
device in a few pieces however many tasks are in it; each task's part is cut out, without a copy,
where the heads run.

Shapes: B features, R rows read by the heads, both of all tasks or of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtlplug.batching.splitting import Indices
from mtlplug.batching.stream import TokenStream
from mtlplug.data.records import counting
from mtlplug.ragged import Splits


@dataclass(frozen=True)
class TaskRows:
    """What the head of one task gets of a micro-batch.

    Attributes:
        features: numbers of the features within the task, on the host.
        splits: how the rows that the head reads belong to features.
        targets: as collated by the format.
    """

    features: Indices
    splits: Splits
    targets: Tensor


class Runs(NamedTuple):
    """Features sorted by task.

    Attributes:
        tasks: the tasks present.
        features: features of each of them.
        firsts: where each of them begins.
    """

    tasks: Indices
    features: Indices
    firsts: Indices

    @classmethod
    def of(cls, tasks_B: Indices) -> Runs:
        """From the task of each feature."""
        counts = np.bincount(tasks_B)
        tasks = counts.nonzero()[0]
        features = counts[tasks]
        return cls(tasks, features, features.cumsum() - features)


@dataclass(frozen=True)
class Targets:
    """Targets of one or several tasks, end to end along the first axis."""

    values: Tensor
    tasks: tuple[int, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class HeadRows:
    """What the heads get of a micro-batch, task by task, end to end.

    Attributes:
        tasks: the tasks present.
        features: features of each of them.
        rows: rows of each of them.
        numbers_B: numbers of the features within their tasks.
        sizes_B: rows of each feature.
        places: int64, shape (2R + B,): for each row its place in the token stream, for each row
            the number of its feature among those of its task, for each feature its first row
            among those of its task.
        weights_B: each feature's share in the mean over the whole batch.
        targets: every task's, joined where the format leaves them end to end.
    """

    tasks: tuple[int, ...]
    features: tuple[int, ...]
    rows: tuple[int, ...]
    numbers_B: Indices
    sizes_B: tuple[int, ...]
    places: Tensor
    weights_B: Tensor
    targets: tuple[Targets, ...]

    @classmethod
    def of(
        cls,
        runs: Runs,
        numbers_B: Indices,
        sizes_B: Indices,
        reads_R: Indices,
        weights_B: npt.NDArray[np.float32],
        targets: tuple[Targets, ...],
    ) -> HeadRows:
        """From features sorted by task: for each its number within its task and its rows."""
        tasks, features, firsts = runs
        starts_B = sizes_B.cumsum() - sizes_B
        # Counted from 0 within each task.
        index_B = counting(len(sizes_B)) - firsts.repeat(features)
        starts_B -= starts_B[firsts].repeat(features)
        return cls(
            tuple(tasks.tolist()),
            tuple(features.tolist()),
            tuple(np.add.reduceat(sizes_B, firsts).tolist()),
            numbers_B,
            tuple(sizes_B.tolist()),
            torch.from_numpy(np.concatenate([reads_R, index_B.repeat(sizes_B), starts_B])),
            torch.from_numpy(weights_B),
            targets,
        )

    def moved(self, move: Callable[[Tensor], Tensor]) -> HeadRows:
        """The same rows, each tensor as `move` gives it."""
        targets = (Targets(move(each.values), each.tasks, each.sizes) for each in self.targets)
        return HeadRows(
            self.tasks,
            self.features,
            self.rows,
            self.numbers_B,
            self.sizes_B,
            move(self.places),
            move(self.weights_B),
            tuple(targets),
        )

    def of_tokens(self, hidden_TD: Tensor) -> dict[int, Tensor]:
        """The rows that each head reads, (R, D).

        Gathered at once: the gradient of each gather is as large as all tokens. A head may
        change its rows in place, as nobody else reads them.
        """
        rows_RD = hidden_TD[self.places[: sum(self.rows)]]
        parts = torch.unsafe_split_with_sizes(rows_RD, self.rows)
        return dict(zip(self.tasks, parts, strict=True))

    def by_task(self) -> dict[int, TaskRows]:
        """Each task's own part: views."""
        total, count = sum(self.rows), len(self.sizes_B)
        _, index_R, starts_B = self.places.split_with_sizes([total, total, count])
        targets: dict[int, Tensor] = {}
        for each in self.targets:
            parts = each.values.split_with_sizes(each.sizes)
            targets.update(zip(each.tasks, parts, strict=True))
        found, first = {}, 0
        for task, size, index, starts in zip(
            self.tasks,
            self.features,
            index_R.split_with_sizes(self.rows),
            starts_B.split_with_sizes(self.features),
            strict=True,
        ):
            mine = slice(first, first + size)
            first += size
            splits = Splits(self.sizes_B[mine], index, starts)
            found[task] = TaskRows(self.numbers_B[mine], splits, targets[task])
        return found


@dataclass(frozen=True)
class MicroBatch:
    """What one rank runs through the encoder at once: a token stream and the heads' rows."""

    stream: TokenStream
    rows: HeadRows

    @cached_property
    def tasks(self) -> Mapping[int, TaskRows]:
        """What each head gets."""
        return self.rows.by_task()

    def to(self, device: torch.device) -> MicroBatch:
        """The same micro-batch on another device, copied without waiting."""
        return self._moved(lambda values: values.to(device, non_blocking=True))

    def pin_memory(self) -> MicroBatch:
        """The same micro-batch in page-locked memory, for asynchronous copies."""
        return self._moved(lambda values: values.pin_memory())

    def _moved(self, move: Callable[[Tensor], Any]) -> MicroBatch:
        return MicroBatch(self.stream.moved(move), self.rows.moved(move))
