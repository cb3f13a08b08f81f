"""Packs the micro-batches of coming steps in a thread, ahead of the step that is running."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from mtlplug.batching.micro_batch import MicroBatch
from mtlplug.batching.mixing import Members
from mtlplug.batching.packing import Packer
from mtlplug.world import World

AHEAD = 2
"""Steps packed ahead of the one that is running."""


@dataclass(frozen=True)
class Step:
    """One rank's share of an optimizer step.

    Attributes:
        micro_batches: what this rank runs; the last ones may have weight zero.
        features: features of the whole batch, over all ranks.
        tokens: tokens of the whole batch, over all ranks.
    """

    micro_batches: tuple[MicroBatch, ...]
    features: int
    tokens: int


@dataclass(frozen=True)
class Loader:
    """Makes the steps of one rank.

    Attributes:
        packer: packs features of the stores.
        world: the processes of the run; this one makes its own share of every step.
        in_step: give every rank the same number of micro-batches (from ZeRO-2 on ranks
            communicate in every pass).
    """

    packer: Packer
    world: World
    in_step: bool

    def steps(self, batches: Iterable[Members]) -> Iterator[Step]:
        """The steps of these batches, packed ahead of use."""
        waiting: deque[Future[Step]] = deque()
        with ThreadPoolExecutor(1, "packing", self._start_thread) as pool:
            for members in batches:
                waiting.append(pool.submit(self.step, members))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def step(self, members: Members) -> Step:
        """This rank's micro-batches of one batch."""
        plan = self.packer.plan(members, self.world.size)
        mine = plan[self.world.rank]
        packed = [self.packer.pack(part, len(members)) for part in mine]
        least = max(len(parts) for parts in plan) if self.in_step else 1
        if len(packed) < least:
            # One feature with weight zero keeps this rank in step with the others.
            filler = self.packer.pack((mine or plan[0])[0].take(np.zeros(1, np.int64)), 0)
            packed += [filler] * (least - len(packed))
        if self.world.device.type == "cuda":
            packed = [micro_batch.pin_memory() for micro_batch in packed]
        return Step(tuple(packed), len(members), sum(self.packer.lengths(members).tolist()))

    def _start_thread(self) -> None:
        """A new thread would pin its memory through the first device of the host."""
        if self.world.device.type == "cuda":
            torch.cuda.set_device(self.world.device)
