"""Times steps of a combination of groups, packed and as other tools would lay them out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, islice

import numpy as np
import numpy.typing as npt
import torch

from mtlplug.batching.loader import Loader
from mtlplug.batching.micro_batch import MicroBatch
from mtlplug.batching.mixing import Members, Pool
from mtlplug.bench.ceiling import PeakMemory, synchronize
from mtlplug.bench.estimate import Estimate, StepModel, total_of
from mtlplug.bench.lengths import PADDED, Lengths, Shape
from mtlplug.model.flops import Flops
from mtlplug.training.engine import Engine
from mtlplug.world import World

WARMUP = {"cpu": 1, "cuda": 3}
"""Steps before the first that counts: caches, allocators and clocks settle."""

REHEARSALS = {"cpu": 0, "cuda": 2}
"""How often all batches run before: a graph is recorded when its bucket comes again, which in an
epoch happens to few steps (`mtlplug.model.graphs`)."""

CPU_TOKENS = 2048
"""Tokens of a padded micro-batch on a CPU: enough rows for its matrix products to run at speed."""


@dataclass
class Timed:
    """Costs in tokens, and the seconds they took."""

    costs: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, cost: float, seconds: float) -> None:
        """Take note of one."""
        self.costs.append(cost)
        self.seconds.append(seconds)

    @property
    def rates(self) -> npt.NDArray[np.float64]:
        """Seconds for each token of cost."""
        rates: npt.NDArray[np.float64] = np.divide(self.seconds, self.costs)
        return rates

    def total(self, cost: float) -> Estimate:
        """Seconds for this cost."""
        return total_of(self.costs, self.seconds, cost)


@dataclass
class Measured:
    """What was timed of one combination.

    Attributes:
        steps: forward and backward of whole batches over all ranks; cost of the batch.
        micro_batches: forward and backward of single micro-batches on this rank.
        updates: the optimizer's update of each step; cost 1.
        padded: by way of `PADDED`, micro-batches laid out as other tools do.
        build: planning and packing of each batch, which the loader's thread does; cost 1.
        tokens: tokens of the timed batches, no padding.
        pairs: pairs of tokens that see each other in them.
        peak_memory: bytes, the most of any step.
    """

    steps: Timed = field(default_factory=Timed)
    micro_batches: Timed = field(default_factory=Timed)
    updates: Timed = field(default_factory=Timed)
    padded: dict[str, Timed] = field(default_factory=lambda: {way: Timed() for way in PADDED})
    build: Timed = field(default_factory=Timed)
    tokens: int = 0
    pairs: int = 0
    peak_memory: int = 0

    @property
    def model(self) -> StepModel:
        """The line through the micro-batches."""
        micro_batches = self.micro_batches
        return StepModel.fit(micro_batches.costs, micro_batches.seconds, self.updates.seconds)


@dataclass(frozen=True)
class Stopwatch:
    """Times the steps of one engine, interleaved with the other ways.

    Attributes:
        engine: trains while it is timed.
        loader: packs the batches.
        pool: the epoch they are drawn from.
        lengths: of its features.
        flops: what the encoder costs.
        world: the processes.
        ways: which of `PADDED` to time too.
        ranks: numbers of ranks whose smaller shares are timed too, for `StepModel`.
    """

    engine: Engine
    loader: Loader
    pool: Pool
    lengths: Lengths
    flops: Flops
    world: World
    ways: Sequence[str] = tuple(PADDED)
    ranks: Sequence[int] = ()

    def run(self, steps: int) -> Measured:
        """Time `steps` batches drawn at random from the epoch."""
        warmup = WARMUP[self.world.device.type]
        batches = list(islice(self._batches(), warmup + steps))
        shapes = {way: self._drawn(way, len(batches)) for way in self.ways}
        measured = Measured()
        for members in batches * REHEARSALS[self.world.device.type]:
            self._packed(members, measured)
        for number, members in enumerate(batches):
            if number == warmup:
                measured = Measured()
            self._packed(members, measured)
            for way, drawn in shapes.items():
                self._padded(drawn[number], measured.padded[way], number)
        return measured

    def _packed(self, members: Members, measured: Measured) -> None:
        """A step, and the smaller shares of it that other numbers of ranks would have."""
        self._step(members, measured)
        for ranks in self.ranks:
            self._share(members, ranks, measured)

    def _batches(self) -> Iterator[Members]:
        """The batches of shuffled epochs, one after the other."""
        return chain.from_iterable(self.pool.epoch(epoch) for epoch in count())

    def _drawn(self, way: str, number: int) -> list[Shape]:
        """Batches of a way, drawn at random from its epoch."""
        shapes = list(self.lengths.shapes(way, self.pool))
        generator = np.random.default_rng(self.pool.seed)
        return [shapes[index] for index in generator.integers(len(shapes), size=number)]

    def _step(self, members: Members, measured: Measured) -> None:
        """One step as a run does it."""
        memory = PeakMemory(self.world.device)
        memory.reset()
        started = time.perf_counter()
        step = self.loader.step(members)
        measured.build.add(1, time.perf_counter() - started)
        parts = self.loader.packer.plan(members, self.world.size)[self.world.rank]
        self._meet()
        started = time.perf_counter()
        for number, micro_batch in enumerate(step.micro_batches):
            seconds = self._pass(micro_batch)
            if number < len(parts):  # what is beyond only keeps ranks in step
                measured.micro_batches.add(self._cost(parts[number]), seconds)
        self._meet()
        measured.steps.add(self._cost(members), time.perf_counter() - started)
        started = time.perf_counter()
        self.engine.update()
        self._meet()
        measured.updates.add(1, time.perf_counter() - started)
        measured.tokens += int(self.lengths.of(members, self.lengths.tokens_N).sum())
        measured.pairs += int(self.lengths.of(members, self.lengths.squares_N).sum())
        measured.peak_memory = max(measured.peak_memory, memory.read())

    def _share(self, members: Members, ranks: int, measured: Measured) -> None:
        """The first micro-batch of a rank among more ranks than there are."""
        part = self.loader.packer.plan(members, ranks)[0][0]
        micro_batch = self.loader.packer.pack(part, len(members))
        measured.micro_batches.add(self._cost(part), self._pass(micro_batch))

    def _padded(self, shape: Shape, timed: Timed, seed: int) -> None:
        """One micro-batch of a padded batch: all of them have the same shape."""
        tokens = self.loader.packer.max_tokens
        if self.world.device.type == "cpu":
            tokens = min(tokens, CPU_TOKENS)
        most = max(1, tokens // shape.length)
        chosen = np.random.default_rng(seed).permutation(len(shape.members))[:most]
        part = shape.members.take(chosen)
        sequences = int(self.lengths.of(part, self.lengths.sequences_N).sum())
        laid_out = Shape(part, shape.length, sequences)
        micro_batch = self.loader.packer.pack(part, len(shape.members))
        with self.engine.model.encoder.padded("sdpa", pad_to=shape.length):
            timed.add(laid_out.cost(self.flops.pair_cost), self._pass(micro_batch))

    def _pass(self, micro_batch: MicroBatch) -> float:
        """Seconds of a forward and backward pass on this rank."""
        synchronize(self.world.device)
        started = time.perf_counter()
        self.engine.accumulate(micro_batch)
        synchronize(self.world.device)
        return time.perf_counter() - started

    def _cost(self, members: Members) -> float:
        """Tokens and attention without padding, in tokens."""
        return float(self.loader.packer.costs(members).sum())

    def _meet(self) -> None:
        """Wait for this rank's device and for the other ranks."""
        synchronize(self.world.device)
        self.world.barrier()


def dtype_of(precision: str) -> torch.dtype:
    """The type of the factors in a precision's matrix products."""
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
