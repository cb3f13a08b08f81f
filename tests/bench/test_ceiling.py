"""Ceilings and memory: what is derived from measurements, on made-up ones."""

from __future__ import annotations

import pytest
import torch

from mtlplug.bench.ceiling import PeakMemory, gemm_ceiling, highest
from mtlplug.training.memory import give_back_memory

CPU = torch.device("cpu")


def test_products_of_a_layer() -> None:
    """All three products are timed; the mean of their speeds is harmonic."""
    speeds = gemm_ceiling(16, torch.float32, CPU)
    mean = speeds.pop("mean")
    assert set(speeds) == {"forward", "inputs", "weights"}
    assert mean == pytest.approx(3 / sum(1 / speed for speed in speeds.values()))


def test_the_highest_counts() -> None:
    """Of each product the fastest measurement is kept, and the mean is taken anew."""
    slow, fast = {"a": 1.0, "b": 4.0, "mean": 1.6}, {"a": 4.0, "b": 2.0, "mean": 2.7}
    assert highest(slow, fast) == {"a": 4.0, "b": 4.0, "mean": 4.0}


def test_peak_memory_is_of_the_time_since_reset() -> None:
    """What was held before the reset and given back does not count; what came after does."""
    memory = PeakMemory(CPU)
    held = torch.ones(64 * 2**20)
    del held
    give_back_memory()
    memory.reset()
    before = memory.read()
    held = torch.ones(32 * 2**20)
    del held
    assert 100 * 2**20 < memory.read() - before < 200 * 2**20
