"""From the features of a batch to ranks, micro-batches and packed tensors.

A batch is split over ranks by cost, a rank's share into micro-batches bounded by tokens, and
a micro-batch is laid out as one stream of tokens, sequences sorted by length, no padding.

Shapes: B features, N features of all stores, T tokens, R rows read by one task's head.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtlplug.batching.mixing import Members
from mtlplug.batching.splitting import Indices, micro_batches, split_over_ranks
from mtlplug.batching.stream import TokenStream
from mtlplug.data.records import Records
from mtlplug.data.store import TARGET_TYPES, WORDS
from mtlplug.ragged import Splits

if TYPE_CHECKING:
    from mtlplug.data.store import FeatureStore
    from mtlplug.formats import TaskFormat


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
        pair_cost: cost of a pair of tokens that attend to each other, in tokens: 1 / (6 D) for
            an encoder of width D whose layers take 24 D^2 L + 4 D L^2 operations.
    """

    def __init__(
        self,
        stores: Sequence[FeatureStore],
        formats: Sequence[TaskFormat],
        weights: Sequence[float],
        max_tokens: int,
        pair_cost: float = 0.0,
    ) -> None:
        self.stores = tuple(stores)
        self.formats = tuple(formats)
        self._weights = np.array(weights, dtype=np.float32)
        self.max_tokens = max_tokens
        self.pair_cost = pair_cost
        self._target_types = np.array(
            [TARGET_TYPES.index(store.target_dtype) for store in self.stores]
        )
        # Features of all stores in a row, each store's followed by an empty place: its end.
        sizes = [len(store) + 1 for store in self.stores]
        self._firsts = np.cumsum([0, *sizes[:-1]])
        # All that is held in memory of a feature, 16 bytes; the rest lies in the stores.
        self._starts_N = np.concatenate([store.starts_N1[:, WORDS] for store in self.stores])
        self._lengths_N = _joined((store.lengths_N for store in self.stores), np.int32)
        self._squares_N = _joined((store.squares_N for store in self.stores), np.float32)

    def lengths(self, members: Members) -> Indices:
        """Tokens of each feature."""
        return self._lengths_N[self._places(members)].astype(np.int64)

    def costs(self, members: Members) -> npt.NDArray[np.float64]:
        """What each feature costs the encoder, in units of tokens.

        `sum over its sequences of L + pair_cost L^2`: work that grows with the tokens, and
        attention. *Shape:* (B,).
        """
        places_B = self._places(members)
        squares_B = self._squares_N[places_B].astype(np.float64)
        return self._lengths_N[places_B] + self.pair_cost * squares_B

    def _places(self, members: Members) -> Indices:
        """The place of each feature among those of all stores."""
        return self._firsts[members.tasks_B] + members.features_B

    def plan(self, members: Members, ranks: int) -> list[list[Members]]:
        """The micro-batches of every rank: the same answer on all of them.

        Ranks by cost, because the slowest one decides when a step ends; micro-batches by
        tokens, because memory grows with them.
        """
        lengths_B = self.lengths(members)
        return [
            [members.take(share[part]) for part in micro_batches(lengths_B[share], self.max_tokens)]
            for share in split_over_ranks(self.costs(members), ranks)
        ]

    def pack(self, members: Members, batch_size: int) -> MicroBatch:
        """Lay features out as one stream, shortest first.

        Args:
            members: the features of a micro-batch.
            batch_size: features of the whole batch; 0 gives weights of zero (a micro-batch
                that only keeps a rank in step).
        """
        order = np.argsort(self.lengths(members), kind="stable")
        members = members.take(order)
        records = self._records(members)
        ids_T, types_T = records.tokens()
        stream = TokenStream.of([ids_T], [types_T], records.lengths())
        return MicroBatch(stream, self._rows(members, records, batch_size))

    def _records(self, members: Members) -> Records:
        """The features as stored, read from the stores."""
        places_B = self._places(members)
        starts_B, ends_B = self._starts_N[places_B], self._starts_N[places_B + 1]
        words = [store.words_W for store in self.stores]
        where = zip(members.tasks_B.tolist(), starts_B.tolist(), ends_B.tolist(), strict=True)
        sizes_B = ends_B - starts_B
        return Records(
            np.concatenate([words[task][start:end] for task, start, end in where]),
            np.cumsum(sizes_B) - sizes_B,
        )

    def _rows(self, members: Members, records: Records, batch_size: int) -> dict[int, TaskRows]:
        """What the head of each task gets: made for all tasks at once, then cut up by task.

        A call of numpy takes a microsecond or more, and a batch may hold dozens of tasks.
        """
        order_B = np.argsort(members.tasks_B, kind="stable")  # task by task
        starts_B = (np.cumsum(records.tokens_B) - records.tokens_B)[order_B]
        counts_B = records.reads_B[order_B]
        before_B = np.cumsum(counts_B) - counts_B
        sizes = np.bincount(members.tasks_B, minlength=len(self.stores))
        tasks = np.flatnonzero(sizes)
        sizes = sizes[tasks]
        firsts = np.cumsum(sizes) - sizes
        weights = self._weights[tasks] / (batch_size or np.inf)
        rows, features = np.add.reduceat(counts_B, firsts).tolist(), sizes.tolist()
        numbers_B = np.arange(len(order_B)) - np.repeat(firsts, sizes)
        cut = zip(
            _cut(records.reads(order_B) + np.repeat(starts_B, counts_B), rows),
            _cut(np.repeat(numbers_B, counts_B), rows),
            _cut(before_B - np.repeat(before_B[firsts], sizes), features),
            _cut(np.repeat(weights, sizes), features),
            strict=True,
        )
        counts, numbers = counts_B.tolist(), members.features_B[order_B]
        targets = self._targets(members, records, order_B)
        found, first = {}, 0
        for task, size, (reads_R, index_R, starts_b, weights_b) in zip(
            tasks.tolist(), features, cut, strict=True
        ):
            mine = slice(first, first + size)
            first += size
            found[task] = TaskRows(
                features=numbers[mine],
                reads_R=reads_R,
                splits=Splits(tuple(counts[mine]), index_R, starts_b),
                targets=self.formats[task].collate(list(islice(targets[task], size))),
                weights_B=weights_b,
            )
        return found

    def _targets(
        self, members: Members, records: Records, order_B: Indices
    ) -> dict[int, Iterator[npt.NDArray[Any]]]:
        """For each task the targets to come, in this order; taken by all of one type at once."""
        types_B = self._target_types[members.tasks_B[order_B]]
        coming = {
            number: iter(records.targets(order_B[types_B == number], dtype))
            for number, dtype in enumerate(TARGET_TYPES)
        }
        return {task: coming[number] for task, number in enumerate(self._target_types.tolist())}


def _cut(values: npt.NDArray[Any], sizes: list[int]) -> tuple[Tensor, ...]:
    return torch.from_numpy(values).split_with_sizes(sizes)


def _joined(parts: Iterable[Indices], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Arrays end to end, an empty place after each; one at a time, to hold little memory."""
    return np.concatenate([np.append(part, 0).astype(dtype) for part in parts])
