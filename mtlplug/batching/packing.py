"""From the features of a batch to ranks, micro-batches and packed tensors.

A batch is split over ranks by cost, a rank's share into micro-batches bounded by tokens, and
a micro-batch is laid out as one stream of tokens, sequences sorted by length, no padding.

Shapes: B features, N features of all stores, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from mtlplug.batching.micro_batch import HeadRows, MicroBatch, Runs, Targets
from mtlplug.batching.mixing import Members
from mtlplug.batching.splitting import Indices, micro_batches, split_over_ranks
from mtlplug.batching.stream import TokenStream
from mtlplug.data.records import Records
from mtlplug.data.store import TARGET_TYPES, WORDS
from mtlplug.formats import TaskFormat

if TYPE_CHECKING:
    from mtlplug.data.store import FeatureStore


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
        # The kind of a task's targets: their type of numbers, and whether its format collates them.
        self._target_dtypes = TARGET_TYPES * 2
        self._target_kinds = np.array(
            [
                TARGET_TYPES.index(store.target_dtype) + len(TARGET_TYPES) * _collates(task_format)
                for store, task_format in zip(self.stores, self.formats, strict=True)
            ]
        )
        self._kinds = np.unique(self._target_kinds).tolist()
        # Features of all stores in a row, each store's followed by an empty place: its end.
        sizes = [len(store) + 1 for store in self.stores]
        self._firsts = np.cumsum([0, *sizes[:-1]])
        self._words = [store.words_W.data for store in self.stores]
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
        if ranks == 1:  # costs that nobody compares are half the time of a plan
            return [[members.take(part) for part in micro_batches(lengths_B, self.max_tokens)]]
        return [
            [members.take(share[part]) for part in micro_batches(lengths_B[share], self.max_tokens)]
            for share in split_over_ranks(self.costs(members), ranks)
        ]

    def pack(self, members: Members, batch_size: int) -> MicroBatch:
        """Lay features out as one stream, in the order given; that of a plan is shortest first.

        Args:
            members: the features of a micro-batch.
            batch_size: features of the whole batch; 0 gives weights of zero (a micro-batch
                that only keeps a rank in step).
        """
        records = self._records(members)
        ids_T, types_T = records.tokens()
        stream = TokenStream.of([ids_T], [types_T], records.lengths())
        return MicroBatch(stream, self._rows(members, records, batch_size))

    def _records(self, members: Members) -> Records:
        """The features as stored, read from the stores."""
        places_B = self._places(members)
        starts_B, ends_B = self._starts_N[places_B], self._starts_N[places_B + 1]
        words = self._words
        where = zip(members.tasks_B.tolist(), starts_B.tolist(), ends_B.tolist(), strict=True)
        sizes_B = ends_B - starts_B
        # Joined as bytes, which takes half the time of slicing and joining arrays.
        joined = b"".join([words[task][start:end] for task, start, end in where])
        return Records(np.frombuffer(joined, np.int32), sizes_B.cumsum() - sizes_B)

    def _rows(self, members: Members, records: Records, batch_size: int) -> HeadRows:
        """What the heads get: made for all tasks at once.

        A call of numpy takes a microsecond or more, and a batch may hold dozens of tasks.
        """
        order_B = members.tasks_B.argsort(kind="stable")  # task by task
        tasks_B = members.tasks_B[order_B]
        counts_B = records.reads_B[order_B]
        starts_B = (records.tokens_B.cumsum() - records.tokens_B)[order_B]
        reads_R = starts_B.repeat(counts_B)
        reads_R += records.reads(order_B)
        runs = Runs.of(tasks_B)
        return HeadRows.of(
            runs,
            members.features_B[order_B],
            counts_B,
            reads_R,
            self._weights[tasks_B] / np.float32(batch_size or np.inf),
            self._targets(runs, tasks_B, records, order_B),
        )

    def _targets(
        self, runs: Runs, tasks_B: Indices, records: Records, order_B: Indices
    ) -> tuple[Targets, ...]:
        """The targets of features sorted by task.

        Those of one type of numbers are taken at once; where a format collates in its own way
        it gets its task's alone.
        """
        if len(self._kinds) == 1:
            return tuple(self._targets_of(self._kinds[0], runs, records, order_B))
        found: list[Targets] = []
        kinds_B = self._target_kinds[tasks_B]
        for kind in self._kinds:
            mine_B = (kinds_B == kind).nonzero()[0]
            if len(mine_B):
                found += self._targets_of(kind, Runs.of(tasks_B[mine_B]), records, order_B[mine_B])
        return tuple(found)

    def _targets_of(
        self, kind: int, runs: Runs, records: Records, order_b: Indices
    ) -> list[Targets]:
        """The targets of features whose tasks have targets of one kind."""
        tasks = runs.tasks.tolist()
        values, sizes_b = records.targets(order_b, self._target_dtypes[kind])
        if kind < len(TARGET_TYPES):
            sizes = np.add.reduceat(sizes_b, runs.firsts).tolist()
            return [Targets(torch.from_numpy(values), tuple(tasks), tuple(sizes))]
        each_b = np.split(values, sizes_b.cumsum()[:-1])
        found, firsts = [], runs.firsts.tolist()
        for task, first, end in zip(tasks, firsts, [*firsts[1:], len(each_b)], strict=True):
            collated = self.formats[task].collate(each_b[first:end])
            found.append(Targets(collated, (task,), (len(collated),)))
        return found


def _collates(task_format: TaskFormat) -> bool:
    """Whether a format joins targets in its own way, not end to end."""
    return type(task_format).collate is not TaskFormat.collate


def _joined(parts: Iterable[Indices], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Arrays end to end, an empty place after each; one at a time, to hold little memory."""
    return np.concatenate([np.append(part, 0).astype(dtype) for part in parts])
