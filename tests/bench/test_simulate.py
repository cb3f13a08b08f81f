"""Predicted epochs against cases that can be worked out by hand."""

from __future__ import annotations

import pytest

from mtlplug.batching.mixing import Pool
from mtlplug.batching.packing import Packer
from mtlplug.bench.estimate import StepModel
from mtlplug.bench.simulate import Link, predict
from tests import toy

LINK = Link(bandwidth=1e9, latency=1e-3)


@pytest.fixture(scope="module")
def packer(tmp_path_factory: pytest.TempPathFactory) -> Packer:
    """Three toy tasks of 40 features."""
    data = toy.task_data(tmp_path_factory.mktemp("stores"), "SL C QA")
    stores = [each.stores["train"] for each in data]
    return Packer(stores, [each.format for each in data], [1.0] * 3, max_tokens=10**6)


@pytest.fixture(scope="module")
def pool(packer: Packer) -> Pool:
    """All features in batches of 16."""
    return Pool([len(store) for store in packer.stores], 16, seed=1)


def test_ring() -> None:
    """Two ranks exchange two halves; more ranks move nearly twice the bytes, and more hops."""
    assert LINK.reduce_and_gather(10**9, 1) == 0
    assert LINK.reduce_and_gather(10**9, 2) == pytest.approx(1.0 + 2e-3)
    assert LINK.reduce_and_gather(10**9, 101) == pytest.approx(200 / 101 + 0.2)


def test_one_rank_is_the_model(packer: Packer, pool: Pool) -> None:
    """On one rank an epoch is its tokens, its micro-batches and its updates, nothing else."""
    model = StepModel(per_cost=0.001, per_micro_batch=0.1, update=0.2)
    (one,) = predict(packer, pool, model, [1], 10**9, LINK)
    tokens = sum(int(store.lengths_N.sum()) for store in packer.stores)
    steps = pool.steps_per_epoch
    assert one.epoch_seconds == pytest.approx(0.001 * tokens + steps * (0.1 + 0.2))
    assert (one.speedup, one.communication, one.balance, one.idle) == (1.0, 0.0, 1.0, 0.0)
    assert one.compute + one.update == pytest.approx(1.0)


def test_compute_is_shared(packer: Packer, pool: Pool) -> None:
    """Where only tokens cost, two ranks are nearly twice as fast: as even as the split."""
    model = StepModel(per_cost=0.001, per_micro_batch=0.0, update=0.0)
    (two,) = predict(packer, pool, model, [2], 0, Link(1e9, 0.0))
    assert two.speedup == pytest.approx(2 / two.balance, rel=0.01)
    assert 1.0 <= two.balance < 1.05


def test_more_ranks_than_features(packer: Packer, pool: Pool) -> None:
    """A batch of 16 leaves ranks idle, and the longest feature decides."""
    model = StepModel(per_cost=0.001, per_micro_batch=0.0, update=0.0)
    many = predict(packer, pool, model, [16, 40], 0, Link(1e9, 0.0))
    assert [round(each.idle) for each in many][1] >= 24
    assert many[0].epoch_seconds == pytest.approx(many[1].epoch_seconds)


def test_slow_links_end_the_gain(packer: Packer, pool: Pool) -> None:
    """With a slow link more ranks are slower, and communication is most of the step."""
    model = StepModel(per_cost=0.001, per_micro_batch=0.0, update=0.1)
    (eight,) = predict(packer, pool, model, [8], 10**9, Link(bandwidth=1e8, latency=0.0))
    assert eight.speedup < 1
    assert eight.communication > 0.9
