"""What an epoch would take on more ranks, from what was measured on these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from mtlplug.batching.mixing import Pool
from mtlplug.batching.packing import Packer
from mtlplug.bench.estimate import StepModel

BATCHES = 64
"""Batches of the epoch that are planned and priced."""


@dataclass(frozen=True)
class Link:
    """How ranks reach each other.

    Attributes:
        bandwidth: bytes per second that a rank sends through the slowest link on the ring.
        latency: seconds until a message arrives.
    """

    bandwidth: float
    latency: float

    def reduce_and_gather(self, size: int, ranks: int) -> float:
        """Seconds to sum gradients of `size` bytes over all ranks and hand the result to all.

        A ring: each rank sends 2 (R - 1) pieces of size / R. ZeRO-1 sends as much: gradients to
        their owners, updated parameters back (Rajbhandari et al., 2020, section 7).
        """
        hops = 2 * (ranks - 1)
        return hops * (size / ranks / self.bandwidth + self.latency)


@dataclass(frozen=True)
class Prediction:
    """An epoch on `ranks` ranks.

    Attributes:
        ranks: processes, one device each.
        epoch_seconds: training only, without evaluation.
        compute: share of the time that forward and backward of the slowest rank take.
        update: share of the optimizer's update.
        communication: share of gradients and parameters on their way.
        balance: cost of the slowest rank over the mean.
        speedup: over one rank.
        idle: ranks that get no feature in a step, on average.
    """

    ranks: int
    epoch_seconds: float
    compute: float
    update: float
    communication: float
    balance: float
    speedup: float
    idle: float


def predict(
    packer: Packer,
    pool: Pool,
    model: StepModel,
    ranks: Sequence[int],
    parameter_bytes: int,
    link: Link,
) -> list[Prediction]:
    """Price a sample of the epoch's batches on each number of ranks.

    Every batch is split as a run would split it; a step takes as long as its slowest rank. The
    update is shared by the ranks (ZeRO-1); communication is taken not to overlap with it.

    Args:
        packer: splits batches.
        pool: the epoch.
        model: measured on one rank.
        ranks: numbers of ranks.
        parameter_bytes: of all parameters, in the precision of the gradients.
        link: between ranks.
    """
    alone = _price(packer, pool, model, 1, parameter_bytes, link).epoch_seconds
    predictions = (_price(packer, pool, model, each, parameter_bytes, link) for each in ranks)
    return [
        Prediction(**{**vars(each), "speedup": alone / each.epoch_seconds}) for each in predictions
    ]


def _price(
    packer: Packer, pool: Pool, model: StepModel, ranks: int, parameter_bytes: int, link: Link
) -> Prediction:
    slowest, balance, idle = [], [], []
    for members in islice(pool.epoch(0), BATCHES):
        plan = packer.plan(members, ranks)
        costs = np.array([sum(packer.costs(part).sum() for part in parts) for parts in plan])
        numbers = np.array([len(parts) for parts in plan])
        slowest.append((model.per_cost * costs + model.per_micro_batch * numbers).max())
        balance.append(costs.max() / costs.mean())
        idle.append((numbers == 0).sum())
    compute, update = float(np.mean(slowest)), model.update / ranks
    communication = link.reduce_and_gather(parameter_bytes, ranks)
    step = compute + update + communication
    return Prediction(
        ranks=ranks,
        epoch_seconds=step * pool.steps_per_epoch,
        compute=compute / step,
        update=update / step,
        communication=communication / step,
        balance=float(np.mean(balance)),
        speedup=1.0,
        idle=float(np.mean(idle)),
    )
