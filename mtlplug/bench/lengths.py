"""The lengths of all features of a pool, and what a batch of them costs in each way of padding.

Shapes: N features of the pool, B features of a batch, S sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mtlplug.batching.mixing import Members, Pool
from mtlplug.data.store import FeatureStore

Integers = npt.NDArray[np.int64]

PADDED = {
    "one_task": "one task per batch, padded to its longest",
    "longest": "mixed batch, padded to its longest",
    "max_length": "padded to max_length",
}
"""How other tools lay out the same features; short names by which results are kept."""


@dataclass(frozen=True)
class Shape:
    """Features laid out as rows of one length.

    Attributes:
        members: the features.
        length: tokens of each row, padding included.
        sequences: rows.
    """

    members: Members
    length: int
    sequences: int

    @property
    def tokens(self) -> int:
        """Tokens computed."""
        return self.length * self.sequences

    def cost(self, pair_cost: float) -> float:
        """Tokens and attention, in tokens."""
        return self.tokens * (1 + pair_cost * self.length)


class Lengths:
    """What has to be known of every feature of a pool to tell what a batch of it costs.

    Args:
        stores: the stores of the pool's tasks.
        most: most tokens of a sequence, for each task.

    Attributes:
        tokens_N: tokens of each feature.
        squares_N: sum of the squared lengths of its sequences.
        longest_N: tokens of its longest sequence.
        sequences_N: its sequences.
    """

    def __init__(self, stores: Sequence[FeatureStore], most: Sequence[int]) -> None:
        self.most = np.asarray(most)
        self._starts = np.cumsum([0, *map(len, stores)])
        self.tokens_N = np.concatenate([store.lengths_N for store in stores])
        self.sequences_N = np.concatenate([np.diff(store.feature_sequences_N1) for store in stores])
        self.squares_N = np.concatenate([store.squares_N for store in stores])
        self.longest_N = np.concatenate([_longest(store) for store in stores])

    def __len__(self) -> int:
        return len(self.tokens_N)

    def of(self, members: Members, values_N: Integers) -> Integers:
        """What belongs to these features."""
        return values_N[self._starts[members.tasks_B] + members.features_B]

    def shapes(self, way: str, pool: Pool, epoch: int = 0) -> Iterator[Shape]:
        """All batches of an epoch in one of the ways of `PADDED`."""
        if way == "one_task":
            generator = np.random.default_rng([pool.seed, epoch])
            drawn = pool.members(pool.drawn(epoch))
            for task in np.unique(drawn.tasks_B):
                mine = generator.permutation(np.flatnonzero(drawn.tasks_B == task))
                for first in range(0, len(mine), pool.batch_size):
                    yield self._shape(drawn.take(mine[first : first + pool.batch_size]))
            return
        for members in pool.epoch(epoch):
            if way == "longest":
                yield self._shape(members)
            else:
                yield from self._fixed(members)

    def _shape(self, members: Members) -> Shape:
        """A batch padded to its longest sequence."""
        longest = int(self.of(members, self.longest_N).max())
        return Shape(members, longest, int(self.of(members, self.sequences_N).sum()))

    def _fixed(self, members: Members) -> Iterator[Shape]:
        """A batch in which every sequence has the most tokens its task may have."""
        most_B = self.most[members.tasks_B]
        for length in np.unique(most_B):
            part = members.take(np.flatnonzero(most_B == length))
            yield Shape(part, int(length), int(self.of(part, self.sequences_N).sum()))


def _longest(store: FeatureStore) -> Integers:
    """Tokens of the longest sequence of each feature."""
    sizes_S = np.diff(store.sequence_starts_S1)
    longest: Integers = np.maximum.reduceat(sizes_S, store.feature_sequences_N1[:-1])
    return longest
