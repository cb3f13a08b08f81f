"""From a few timed steps to an epoch, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number and the half width of its 95 % interval."""

    value: float
    margin: float

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.value + other.value, float(np.hypot(self.margin, other.margin)))


def total_of(costs: Sequence[float], seconds: Sequence[float], total_cost: float) -> Estimate:
    """Seconds for `total_cost`, by the ratio estimator of survey sampling.

    Steps differ mainly by the tokens in them, and the tokens of all steps are known; so the
    seconds per cost are estimated, not the seconds per step.

    Args:
        costs: of the steps that were timed; two or more.
        seconds: of these steps.
        total_cost: of all steps.
    """
    costs_K, seconds_K = np.asarray(costs, float), np.asarray(seconds, float)
    ratio = seconds_K.sum() / costs_K.sum()
    error = mean_of((seconds_K - ratio * costs_K).tolist()).margin / costs_K.mean()
    return Estimate(float(ratio * total_cost), float(error * total_cost))


def mean_of(values: Sequence[float]) -> Estimate:
    """The mean of two or more values, with Student's interval."""
    from scipy import stats  # takes a second, and most who import this module need it not

    values_K = np.asarray(values, float)
    error = values_K.std(ddof=1) / np.sqrt(len(values_K))
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(values_K) - 1)
    return Estimate(float(values_K.mean()), float(quantile * error))


@dataclass(frozen=True)
class StepModel:
    """What a step costs one rank: seconds = per cost x cost + per micro-batch + per update.

    Attributes:
        per_cost: seconds for a token (attention counted in tokens), forward and backward.
        per_micro_batch: seconds that every micro-batch takes beside.
        update: seconds of the optimizer's update of all parameters.
    """

    per_cost: float
    per_micro_batch: float
    update: float

    @classmethod
    def fit(
        cls, costs: Sequence[float], seconds: Sequence[float], updates: Sequence[float]
    ) -> StepModel:
        """The line through timed micro-batches of different sizes, in relative least squares."""
        costs_M, seconds_M = np.asarray(costs, float), np.asarray(seconds, float)
        design_M2 = np.stack([costs_M, np.ones_like(costs_M)], axis=1) / seconds_M[:, None]
        (per_cost, fixed), *_ = np.linalg.lstsq(design_M2, np.ones_like(costs_M))
        if fixed < 0 or per_cost < 0:
            per_cost, fixed = float(np.median(seconds_M / costs_M)), 0.0
        return cls(float(per_cost), float(fixed), float(np.median(updates)))
