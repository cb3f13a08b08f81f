"""Which examples make a batch: the pool of all tasks, shuffled, cut into batches.

Padmakumar et al. (2022), section 3.2 and appendix A, "Heterogeneous Batches": every batch holds
examples of several tasks and the empirical distribution of examples is kept, unless a mix
(`mtlplug.batching.mixes`) says otherwise. The answer depends on seed and epoch alone, so every
rank knows it without communication.

Shapes: B features of a batch, N features of an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mtlplug.errors import MtlplugError

Draws = Callable[[int], Sequence[int]]
"""By the number of an epoch, counted from 0: how many features of each task it draws."""


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
    """The training features of all tasks, pooled.

    Args:
        sizes: features of each task.
        batch_size: features of a batch.
        seed: of the mix.
        draws: how many features of each task an epoch draws, by the epoch's number; by default
            every feature once.
    """

    def __init__(
        self, sizes: Sequence[int], batch_size: int, seed: int, draws: Draws | None = None
    ) -> None:
        self.sizes = tuple(sizes)
        self.batch_size = batch_size
        self.seed = seed
        self._draws = draws or (lambda epoch: self.sizes)
        self._starts = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)
        self.epoch_size = sum(self._draws(0))

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch; the last one may be smaller."""
        return -(-self.epoch_size // self.batch_size)

    def epoch(self, epoch: int, done: int = 0) -> Iterator[Members]:
        """The batches of one epoch, in an order of its own.

        Args:
            epoch: its number.
            done: batches of it that are left out, at its beginning.
        """
        generator = np.random.Generator(np.random.PCG64([self.seed, epoch]))
        pooled_N = self.drawn(epoch)
        order_N = generator.permutation(len(pooled_N))
        for first in range(done * self.batch_size, len(order_N), self.batch_size):
            yield self.members(pooled_N[order_N[first : first + self.batch_size]])

    def drawn(self, epoch: int) -> npt.NDArray[np.int64]:
        """Places in the pool of what an epoch draws, task by task.

        A task that is not drawn as a whole goes on where the epoch before stopped, in shuffled
        passes over its features, so that none comes twice as long as another waits.

        Raises:
            MtlplugError: the mix draws what cannot be drawn.
        """
        firsts = np.zeros(len(self.sizes), np.int64)
        for before in range(epoch):
            firsts += self.counts(before)
        return np.concatenate(
            [
                self._starts[task] + self._passes(task, int(first), count)
                for task, (first, count) in enumerate(zip(firsts, self.counts(epoch), strict=True))
            ]
        )

    def counts(self, epoch: int) -> list[int]:
        """How many features of each task an epoch draws.

        Raises:
            MtlplugError: the mix draws what cannot be drawn.
        """
        counts = list(self._draws(epoch))
        if (
            len(counts) != len(self.sizes)
            or sum(counts) != self.epoch_size
            or any(
                count < 0 or (count and not size)
                for count, size in zip(counts, self.sizes, strict=True)
            )
        ):
            raise MtlplugError(
                f"the mix draws {counts} features in epoch {epoch + 1} of tasks that have "
                f"{list(self.sizes)}; it must give one whole number for each, 0 for a task "
                f"without any, in every epoch of the same sum (here {self.epoch_size})"
            )
        return counts

    def _passes(self, task: int, first: int, count: int) -> npt.NDArray[np.int64]:
        """Features of a task: `count` after the first `first` of endless passes over all."""
        size = self.sizes[task]
        if not count:
            return np.zeros(0, np.int64)
        if count == size and first % size == 0:
            return np.arange(size)  # one whole pass, whose order the batches make
        orders = [
            np.random.Generator(np.random.PCG64([self.seed, task, number])).permutation(size)
            for number in range(first // size, -(-(first + count) // size))
        ]
        return np.concatenate(orders)[first % size :][:count]

    def members(self, pooled_B: npt.NDArray[np.int64]) -> Members:
        """Tasks and features of these places in the pool."""
        tasks_B = np.searchsorted(self._starts, pooled_B, side="right") - 1
        return Members(tasks_B, pooled_B - self._starts[tasks_B])
