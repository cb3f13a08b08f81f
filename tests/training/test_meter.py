"""mtlplug.training.meter: what is said of the steps."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from mtlplug.batching.loader import Step
from mtlplug.training.meter import Meter
from mtlplug.world import World


def steps(number: int, seconds: float) -> Iterator[Step]:
    """Steps that take a while to make."""
    for _ in range(number):
        time.sleep(seconds)
        yield Step((), features=2, tokens=10)


def read(making: float, training: float) -> tuple[float, float, int]:
    """The loader's share, seconds waited and tokens of three steps."""
    meter = Meter(World(0, 1, torch.device("cpu")))
    for step in meter.awaited(steps(3, making)):
        time.sleep(training)
        meter.add(step, torch.tensor(1.5))
    reading = meter.read()
    assert reading.loss == pytest.approx(1.5)
    assert meter.read().waited == 0.0
    return reading.loader_wait, reading.waited, reading.tokens


def test_the_meter_tells_waiting_from_training() -> None:
    """The share of the loader is the time spent waiting for steps, over all of it."""
    share, waited, tokens = read(making=0.05, training=0.0)
    assert share > 0.9
    assert waited >= 0.15
    assert tokens == 30
    share, _, _ = read(making=0.0, training=0.05)
    assert share < 0.1
