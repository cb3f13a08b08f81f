"""From the features of a batch to ranks, micro-batches and packed tensors.

A batch is split over ranks by tokens, a rank's share into micro-batches bounded by tokens, and
a micro-batch is laid out as one stream of tokens, sequences sorted by length, no padding.

Shapes: B features, T tokens, R rows read by one task's head.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtlplug.batching.mixing import Members
from mtlplug.batching.stream import TokenStream
from mtlplug.ragged import Splits

if TYPE_CHECKING:
    from mtlplug.data.store import FeatureStore
    from mtlplug.formats import TaskFormat

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TaskRows:
    """What the head of one task gets of a micro-batch.

    Attributes:
        features: numbers of the features within the task, on the host.
        reads_R: places in the token stream of the rows the head reads.
        splits: how these rows belong to features.
        targets: as collated by the format.
        weights_B: each feature's share in the mean over the whole batch.
    """

    features: Indices
    reads_R: Tensor
    splits: Splits
    targets: Tensor
    weights_B: Tensor

    def to(self, device: torch.device) -> TaskRows:
        """The same rows on another device."""
        return TaskRows(
            self.features,
            self.reads_R.to(device, non_blocking=True),
            self.splits.to(device),
            self.targets.to(device, non_blocking=True),
            self.weights_B.to(device, non_blocking=True),
        )

    def pin_memory(self) -> TaskRows:
        """The same rows in page-locked memory."""
        return TaskRows(
            self.features,
            self.reads_R.pin_memory(),
            self.splits.pin_memory(),
            self.targets.pin_memory(),
            self.weights_B.pin_memory(),
        )


@dataclass(frozen=True)
class MicroBatch:
    """What one rank runs through the encoder at once: a token stream and the tasks' rows."""

    stream: TokenStream
    tasks: Mapping[int, TaskRows]

    def to(self, device: torch.device) -> MicroBatch:
        """The same micro-batch on another device, copied without waiting."""
        rows = {task: rows.to(device) for task, rows in self.tasks.items()}
        return MicroBatch(self.stream.to(device), rows)

    def pin_memory(self) -> MicroBatch:
        """The same micro-batch in page-locked memory, for asynchronous copies."""
        rows = {task: rows.pin_memory() for task, rows in self.tasks.items()}
        return MicroBatch(self.stream.pin_memory(), rows)


class Packer:
    """Packs features out of the stores of all tasks.

    Args:
        stores: the stores of one split, in the order of the tasks.
        formats: the format of each task.
        weights: factor on each task's loss.
        max_tokens: token budget of a micro-batch; one longer feature makes its own.
    """

    def __init__(
        self,
        stores: Sequence[FeatureStore],
        formats: Sequence[TaskFormat],
        weights: Sequence[float],
        max_tokens: int,
    ) -> None:
        self.stores = tuple(stores)
        self.formats = tuple(formats)
        self.weights = tuple(weights)
        self.max_tokens = max_tokens

    def lengths(self, members: Members) -> Indices:
        """Tokens of each feature."""
        lengths_B = np.empty(len(members), dtype=np.int64)
        for task in np.unique(members.tasks_B):
            mine = members.tasks_B == task
            lengths_B[mine] = self.stores[task].lengths_N[members.features_B[mine]]
        return lengths_B

    def plan(self, members: Members, ranks: int) -> list[list[Members]]:
        """The micro-batches of every rank: the same answer on all of them."""
        lengths_B = self.lengths(members)
        return [
            [members.take(share[part]) for part in micro_batches(lengths_B[share], self.max_tokens)]
            for share in split_over_ranks(lengths_B, ranks)
        ]

    def pack(self, members: Members, batch_size: int) -> MicroBatch:
        """Lay features out as one stream, shortest first.

        Args:
            members: the features of a micro-batch.
            batch_size: features of the whole batch; 0 gives weights of zero (a micro-batch
                that only keeps a rank in step).
        """
        lengths_B = self.lengths(members)
        order = np.argsort(lengths_B, kind="stable")
        members, lengths_B = members.take(order), lengths_B[order]
        places = [
            (self.stores[task], feature)
            for task, feature in zip(
                members.tasks_B.tolist(), members.features_B.tolist(), strict=True
            )
        ]
        stream = TokenStream.of(
            [store.ids(feature) for store, feature in places],
            [store.types(feature) for store, feature in places],
            np.concatenate([store.sequence_lengths(feature) for store, feature in places]).tolist(),
        )
        starts_B = np.cumsum(lengths_B) - lengths_B
        rows = {
            int(task): self._rows(
                int(task),
                members.features_B[members.tasks_B == task],
                starts_B[members.tasks_B == task],
                batch_size,
            )
            for task in np.unique(members.tasks_B)
        }
        return MicroBatch(stream, rows)

    def _rows(self, task: int, features_B: Indices, starts_B: Indices, batch_size: int) -> TaskRows:
        store = self.stores[task]
        numbers = features_B.tolist()
        reads = [
            store.reads(feature) + start for feature, start in zip(numbers, starts_B, strict=True)
        ]
        targets = [store.target(feature) for feature in numbers]
        weight = self.weights[task] / batch_size if batch_size else 0.0
        return TaskRows(
            features=features_B,
            reads_R=torch.from_numpy(np.concatenate(reads).astype(np.int64)),
            splits=Splits.of(store.read_counts_N[features_B].tolist()),
            targets=self.formats[task].collate(targets),
            weights_B=torch.full((len(numbers),), weight, dtype=torch.float32),
        )


def split_over_ranks(costs_B: Indices, ranks: int) -> list[Indices]:
    """Split features so that the ranks' costs are nearly equal.

    Longest processing time first: each feature, the costliest first, goes to the rank that has
    the least so far. Deterministic.
    """
    if ranks == 1:
        return [np.arange(len(costs_B))]
    loads = [(0, rank) for rank in range(ranks)]
    shares: list[list[int]] = [[] for _ in range(ranks)]
    for feature in np.argsort(-costs_B, kind="stable").tolist():
        load, rank = heapq.heappop(loads)
        shares[rank].append(feature)
        heapq.heappush(loads, (load + int(costs_B[feature]), rank))
    return [np.array(sorted(share), dtype=np.int64) for share in shares]


def micro_batches(lengths_B: Indices, max_tokens: int) -> list[Indices]:
    """Cut features, sorted by length, into micro-batches of at most `max_tokens` tokens.

    Sorted, so that sequences of equal length meet; cut evenly, so that none is left tiny. A
    feature longer than the budget is a micro-batch of its own.
    """
    order = np.argsort(lengths_B, kind="stable")
    lengths_B = lengths_B[order]
    ends = np.cumsum(lengths_B)
    total = int(ends[-1]) if len(ends) else 0
    for number in range(-(-total // max_tokens), len(order) + 1):
        # A feature belongs to the part in which its middle token lies.
        part_B = ((ends - lengths_B / 2) * number // total).astype(np.int64)
        tokens = np.bincount(part_B, lengths_B, minlength=number)
        features = np.bincount(part_B, minlength=number)
        if ((tokens <= max_tokens) | (features <= 1)).all():
            return [order[part_B == part] for part in range(number) if features[part]]
    return [order[index : index + 1] for index in range(len(order))]
