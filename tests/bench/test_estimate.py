"""Estimates from few steps: right on the mean, and their intervals hold as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from mtlplug.bench.estimate import Estimate, StepModel, total_of


def test_ratio_of_exact_steps() -> None:
    """Where seconds are proportional to costs the estimate is exact, however costs differ."""
    estimate = total_of([100, 400, 50], [1.0, 4.0, 0.5], total_cost=10_000)
    assert estimate.value == pytest.approx(100.0)
    assert estimate.margin == pytest.approx(0.0, abs=1e-9)


def test_known_interval() -> None:
    """Equal costs give the interval of a mean: t(0.975, 3) s / sqrt(n) for each step."""
    seconds = [1.0, 2.0, 3.0, 4.0]
    estimate = total_of([1] * 4, seconds, total_cost=10)
    assert estimate.value == pytest.approx(25.0)
    assert estimate.margin == pytest.approx(10 * 3.1824463 * np.std(seconds, ddof=1) / 2)


def test_intervals_hold() -> None:
    """About 95 of 100 intervals hold the truth; half as wide they do not."""
    random = np.random.default_rng(0)
    held = half = 0
    for _ in range(1000):
        costs = random.uniform(50, 150, size=6)
        seconds = costs * 0.01 + random.normal(0, 0.1, size=6)
        estimate = total_of(costs.tolist(), seconds.tolist(), total_cost=1000)
        held += abs(estimate.value - 10) <= estimate.margin
        half += abs(estimate.value - 10) <= estimate.margin / 2
    assert 920 <= held <= 980
    assert half < 880


def test_sum_of_estimates() -> None:
    """Values add up, independent margins in quadrature."""
    assert Estimate(1.0, 3.0) + Estimate(2.0, 4.0) == Estimate(3.0, 5.0)


def test_step_model_finds_both_parts() -> None:
    """Seconds per cost and per micro-batch are told apart; the update is the median."""
    costs = [10.0, 100.0, 1000.0]
    model = StepModel.fit(costs, [0.5 + 0.01 * cost for cost in costs], [1.0, 9.0, 2.0])
    assert model.per_cost == pytest.approx(0.01)
    assert model.per_micro_batch == pytest.approx(0.5)
    assert model.update == 2.0


def test_step_model_is_never_negative() -> None:
    """Where larger micro-batches are slower per token, the fixed part is zero."""
    model = StepModel.fit([10.0, 20.0, 40.0], [0.05, 0.2, 0.8], [0.0])
    assert model.per_micro_batch == 0.0
    assert model.per_cost > 0
