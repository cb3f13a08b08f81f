"""Which examples make a batch: the pool of all tasks, shuffled, cut into batches.

Padmakumar et al. (2022), section 3.2 and appendix A, "Heterogeneous Batches": every batch holds
examples of several tasks and the empirical distribution of examples is kept. The answer depends
on seed and epoch alone, so every rank knows it without communication.

Shapes: B features of a batch, N features of the pool.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Members:
    """The features of one batch.

    Attributes:
        tasks_B: number of the task of each feature, in the order of the pool's sizes.
        features_B: number of the feature within its task.
    """

    tasks_B: npt.NDArray[np.int64]
    features_B: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.tasks_B)

    def take(self, indices: npt.NDArray[np.int64]) -> Members:
        """Some of these features, in the order of `indices`."""
        return Members(self.tasks_B[indices], self.features_B[indices])


class Pool:
    """The training features of all tasks, pooled."""

    def __init__(self, sizes: Sequence[int], batch_size: int, seed: int) -> None:
        self.sizes = tuple(sizes)
        self.batch_size = batch_size
        self.seed = seed
        self._starts = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch; the last one may be smaller."""
        return -(-len(self) // self.batch_size)

    def epoch(self, epoch: int, done: int = 0) -> Iterator[Members]:
        """The batches of one epoch: one pass over the pool, in an order of its own.

        Args:
            epoch: its number.
            done: batches of it that are left out, at its beginning.
        """
        generator = np.random.Generator(np.random.PCG64([self.seed, epoch]))
        order_N = generator.permutation(len(self))
        for first in range(done * self.batch_size, len(self), self.batch_size):
            yield self.members(order_N[first : first + self.batch_size])

    def members(self, pooled_B: npt.NDArray[np.int64]) -> Members:
        """Tasks and features of these places in the pool."""
        tasks_B = np.searchsorted(self._starts, pooled_B, side="right") - 1
        return Members(tasks_B, pooled_B - self._starts[tasks_B])
