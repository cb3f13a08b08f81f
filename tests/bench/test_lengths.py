"""What the batches of an epoch cost in each way of padding, against counting one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtlplug.batching.mixing import Members, Pool
from mtlplug.bench.lengths import PADDED, Lengths
from mtlplug.data.store import FeatureStore, FeatureWriter
from mtlplug.data.tokens import Encoded
from mtlplug.formats import Feature
from tests import toy

# Two tasks; a feature is a list of the lengths of its sequences.
TASKS = ([[3], [5], [2], [9]], [[4, 6], [2, 2], [7, 1]])
MOST = (12, 8)
BATCH = 2


@pytest.fixture
def stores(tmp_path: Path) -> list[FeatureStore]:
    """The stores of both tasks."""
    stores = []
    for number, features in enumerate(TASKS):
        writer = FeatureWriter(tmp_path / str(number), references=False)
        for sizes in features:
            writer.add(Feature(tuple(map(_sequence, sizes)), reads=[0], target=[0], reference=None))
        writer.close({})
        stores.append(FeatureStore(tmp_path / str(number)))
    return stores


def _sequence(size: int) -> Encoded:
    words = " ".join(["w1"] * size)
    return Encoded(toy.tokenizer().backend_tokenizer.encode(words, add_special_tokens=False))


@pytest.fixture
def pool(stores: list[FeatureStore]) -> Pool:
    """Both tasks pooled."""
    return Pool([len(store) for store in stores], BATCH, seed=1)


def sizes_of(members: Members) -> list[list[int]]:
    """Lengths of the sequences of each feature."""
    places = zip(members.tasks_B.tolist(), members.features_B.tolist(), strict=True)
    return [TASKS[task][feature] for task, feature in places]


@pytest.mark.parametrize("way", PADDED)
def test_every_feature_once(stores: list[FeatureStore], pool: Pool, way: str) -> None:
    """In every way an epoch is one pass over the pool, in batches of the same size or less."""
    shapes = list(Lengths(stores, MOST).shapes(way, pool))
    seen = [
        pair
        for shape in shapes
        for pair in zip(shape.members.tasks_B, shape.members.features_B, strict=True)
    ]
    assert sorted(seen) == [(task, n) for task in (0, 1) for n in range(len(TASKS[task]))]
    assert all(len(shape.members) <= BATCH for shape in shapes)


def test_padded_to_the_longest_of_a_batch(stores: list[FeatureStore], pool: Pool) -> None:
    """Every sequence of a mixed batch costs as much as the longest."""
    for shape, members in zip(
        Lengths(stores, MOST).shapes("longest", pool), pool.epoch(0), strict=True
    ):
        flat = [size for sizes in sizes_of(members) for size in sizes]
        assert (shape.length, shape.sequences) == (max(flat), len(flat))
        assert shape.tokens == max(flat) * len(flat)
        assert shape.cost(0.5) == len(flat) * (max(flat) + 0.5 * max(flat) ** 2)


def test_padded_to_the_most_of_its_task(stores: list[FeatureStore], pool: Pool) -> None:
    """Every sequence costs as much as the longest its task may have."""
    shapes = list(Lengths(stores, MOST).shapes("max_length", pool))
    assert sum(shape.tokens for shape in shapes) == 4 * 12 + 6 * 8
    assert {shape.length for shape in shapes} == set(MOST)


def test_one_task_per_batch(stores: list[FeatureStore], pool: Pool) -> None:
    """No batch holds two tasks, and each is padded to its own longest."""
    for shape in Lengths(stores, MOST).shapes("one_task", pool):
        assert len(set(shape.members.tasks_B.tolist())) == 1
        assert shape.length == max(max(sizes) for sizes in sizes_of(shape.members))


@pytest.mark.parametrize("way", PADDED)
def test_every_way_draws_what_the_mix_says(stores: list[FeatureStore], way: str) -> None:
    """An epoch of another mix is the same features in every way of padding."""
    pool = Pool([len(store) for store in stores], BATCH, seed=1, draws=lambda epoch: [2, 5])
    shapes = Lengths(stores, MOST).shapes(way, pool)
    drawn = np.concatenate([shape.members.tasks_B for shape in shapes])
    assert np.bincount(drawn).tolist() == [2, 5]
