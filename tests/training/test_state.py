"""mtlplug.training.state: an engine that was put back goes on as if nothing had happened."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtlplug.data.build import TaskData
from mtlplug.training.checkpoint import Checkpoints, Found
from mtlplug.training.engine import Engine, load_weights
from mtlplug.training.pretrain import new_model
from tests import toy
from tests.training.test_zero import new_engine, steps


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[TaskData]:
    """Stored toy tasks of three formats."""
    return toy.task_data(tmp_path_factory.mktemp("stores"))


def saved(engine: Engine, place: Path) -> Found:
    """What a checkpoint of an engine gives back."""
    checkpoints = Checkpoints(place, engine.world)
    shared = {"needs": [], "engine": engine.shared()}
    checkpoints.save("step-2", engine.capture(ahead=False), shared)
    checkpoints.wait()
    found = checkpoints.newest()
    assert found is not None
    return found


CASES = [
    ("fp32", {}),
    ("bf16", {}),
    ("fp32", {"zero_optimization": {"stage": 0}}),
    ("fp32", {"zero_optimization": {"stage": 2}}),
    ("fp32", {"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 100}}),
    ("fp32", {"optimizer": {"type": "SGD", "params": {"lr": 1e-3, "momentum": 0.9}}}),
    ("fp32", {"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 9}}}),
]


@pytest.mark.parametrize(("precision", "sections"), CASES, ids=lambda value: str(value))
def test_restored_state_goes_on_to_the_last_bit(
    data: list[TaskData], tmp_path: Path, precision: str, sections: dict[str, Any]
) -> None:
    """Losses and weights after a save and a load are those without, under every stage."""
    engine = new_engine(data, precision, **sections)
    batches = list(steps(data, engine.world, 4))
    for step in batches[:2]:
        engine.step(step)
    found = saved(engine, tmp_path)
    expected = [float(engine.step(step)) for step in batches[2:]]
    weights, rate = engine.weights(), engine.learning_rate
    engine.engine.destroy()
    other = new_engine(data, precision, **sections)
    assert [float(other.step(step)) for step in batches[2:]] != expected
    other.restore(found)
    assert other.engine.global_steps == 2
    assert [float(other.step(step)) for step in batches[2:]] == expected
    assert all(torch.equal(value, weights[name]) for name, value in other.weights().items())
    assert other.learning_rate == rate
    other.engine.destroy()


def test_weights_of_a_checkpoint_are_the_engines(data: list[TaskData], tmp_path: Path) -> None:
    """In bf16 they are the optimizer's float32 weights, not the rounded copies."""
    engine = new_engine(data, "bf16")
    for step in islice(steps(data, engine.world), 2):
        engine.step(step)
    found, weights = saved(engine, tmp_path), engine.weights()
    engine.engine.destroy()
    model = new_model(toy.encoder(), data, seed=8)
    load_weights(model, found)
    named = dict(model.named_parameters())
    assert all(torch.equal(named[name], value) for name, value in weights.items())
    assert any(not torch.equal(value, value.bfloat16().float()) for value in weights.values())


def test_random_generators_go_on(data: list[TaskData], tmp_path: Path) -> None:
    """Those of torch, numpy and Python, which formats may use."""
    import random

    def drawn() -> list[float]:
        return [float(torch.rand(())), float(np.random.rand()), random.random()]

    engine = new_engine(data, "fp32")
    found = saved(engine, tmp_path)
    expected = drawn()
    assert drawn() != expected
    engine.restore(found)
    assert drawn() == expected
    engine.engine.destroy()
