"""What an epoch of one combination of groups costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtlplug.bench.estimate import Estimate, StepModel, mean_of
from mtlplug.bench.measure import Measured, Stopwatch
from mtlplug.bench.simulate import Prediction


@dataclass(frozen=True)
class Cost:
    """What an epoch of one combination costs.

    Attributes:
        groups: as `--groups` takes them.
        precision: fp32, bf16 or fp16.
        tasks: their number.
        features: of an epoch.
        tokens: of an epoch, no padding.
        steps: of an epoch.
        epoch_seconds: training only, without evaluation.
        tokens_per_second: over the timed steps.
        padding_avoided: share of the tokens of a batch padded to its longest that are padding.
        flops_per_second: operations needed without padding, three forward passes, over time;
            each rank's share.
        ceilings: operations per second of bare matrix products (`gemm_ceiling`).
        utilisation: `flops_per_second` over the mean ceiling.
        peak_memory: bytes, the most of any step on one rank.
        build_seconds: to plan and pack a batch; done ahead, in a thread.
        update_share: share of the step that the optimizer's update takes.
        step_model: what a step costs one rank.
        padded: seconds of an epoch in each way of `PADDED`.
        ratios: how many times as long as packed each way takes, step by step, so that a slow
            moment of the machine, which hits neighbouring timings alike, cancels.
        price: of an epoch; None where no price was given.
        predictions: on other numbers of ranks.
    """

    groups: str
    precision: str
    tasks: int
    features: int
    tokens: int
    steps: int
    epoch_seconds: Estimate
    tokens_per_second: float
    padding_avoided: float
    flops_per_second: float
    ceilings: Mapping[str, float]
    utilisation: float
    peak_memory: int
    build_seconds: float
    update_share: float
    step_model: StepModel
    padded: Mapping[str, Estimate]
    ratios: Mapping[str, Estimate]
    price: float | None
    predictions: Sequence[Prediction]


def summarise(
    groups: str,
    tasks: int,
    stopwatch: Stopwatch,
    measured: Measured,
    ceilings: Mapping[str, float],
    predictions: Sequence[Prediction],
    price: float | None,
) -> Cost:
    """From what was timed to an epoch."""
    lengths, pool, flops = stopwatch.lengths, stopwatch.pool, stopwatch.flops
    updates = measured.updates.total(pool.steps_per_epoch)
    drawn = pool.members(pool.drawn(0))
    total = float(stopwatch.loader.packer.costs(drawn).sum())
    epoch = measured.steps.total(total) + updates
    padded, ratios = {}, {}
    for way in stopwatch.ways:
        work = sum(shape.cost(flops.pair_cost) for shape in lengths.shapes(way, pool))
        work /= stopwatch.world.size
        padded[way] = measured.padded[way].total(work) + updates
        ratios[way] = _ratio(measured, way, work, total, pool.steps_per_epoch)
    computed = sum(shape.tokens for shape in lengths.shapes("longest", pool))
    tokens = int(lengths.of(drawn, lengths.tokens_N).sum())
    update_seconds = sum(measured.updates.seconds)
    seconds = sum(measured.steps.seconds) + update_seconds
    needed = 3 * (flops.per_token * measured.tokens + flops.per_pair * measured.pairs)
    speed = needed / seconds / stopwatch.world.size
    return Cost(
        groups=groups,
        precision=stopwatch.engine.precision,
        tasks=tasks,
        features=len(drawn),
        tokens=tokens,
        steps=pool.steps_per_epoch,
        epoch_seconds=epoch,
        tokens_per_second=measured.tokens / seconds,
        padding_avoided=1 - tokens / computed,
        flops_per_second=speed,
        ceilings=ceilings,
        utilisation=speed / ceilings["mean"],
        peak_memory=measured.peak_memory,
        build_seconds=sum(measured.build.seconds) / len(measured.build.seconds),
        update_share=update_seconds / seconds,
        step_model=measured.model,
        padded=padded,
        ratios=ratios,
        price=None if price is None else price * epoch.value / 3600,
        predictions=predictions,
    )


def _ratio(measured: Measured, way: str, work: float, total: float, steps: int) -> Estimate:
    """The mean over the timed steps of an epoch's time in a way over its time packed."""
    updates_K = steps * np.array(measured.updates.seconds)
    packed_K = total * measured.steps.rates + updates_K
    padded_K = work * measured.padded[way].rates + updates_K
    return mean_of((padded_K / packed_K).tolist())
