"""mtlplug.batching.packing and loader: ranks, micro-batches and packed tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlplug.batching.loader import Loader, Step
from mtlplug.batching.mixing import Members, Pool
from mtlplug.batching.packing import Packer, micro_batches, split_over_ranks
from mtlplug.data.build import TaskData
from mtlplug.world import World
from tests import toy

CPU = torch.device("cpu")

LENGTHS = st.lists(st.integers(1, 400), min_size=1, max_size=150)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[TaskData]:
    """Stored toy tasks."""
    return toy.task_data(tmp_path_factory.mktemp("stores"))


def packer(data: list[TaskData], max_tokens: int = 100) -> Packer:
    """A packer over their training splits."""
    stores = [each.stores["train"] for each in data]
    return Packer(stores, [each.format for each in data], [1.0] * len(data), max_tokens)


def batch(packer: Packer, size: int = 32) -> Members:
    """A mixed batch."""
    return next(Pool([len(store) for store in packer.stores], size, seed=7).epoch(0))


def weight(step: Step) -> float:
    """What a rank's features weigh together."""
    return sum(
        float(rows.weights_B.sum())
        for micro_batch in step.micro_batches
        for rows in micro_batch.tasks.values()
    )


@given(LENGTHS, st.integers(1, 500))
def test_micro_batches_hold_every_feature_once_within_the_budget(
    lengths: list[int], budget: int
) -> None:
    """Nothing is lost or doubled; only a feature longer than the budget exceeds it, alone."""
    parts = micro_batches(np.array(lengths), budget)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(lengths)))
    for part in parts:
        assert len(part) == 1 or sum(lengths[index] for index in part) <= budget


@given(LENGTHS)
def test_micro_batches_are_sorted_by_length(lengths: list[int]) -> None:
    """Sequences of like length meet, so that padding or grouping is cheap."""
    order = np.concatenate(micro_batches(np.array(lengths), 1000))
    assert sorted(lengths) == [lengths[index] for index in order]


@given(LENGTHS, st.integers(1, 9))
def test_ranks_hold_every_feature_once(lengths: list[int], ranks: int) -> None:
    """Nothing is lost or doubled between ranks."""
    shares = split_over_ranks(np.array(lengths), ranks)
    assert len(shares) == ranks
    assert sorted(np.concatenate(shares).tolist()) == list(range(len(lengths)))


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_ranks_carry_nearly_equal_tokens(ranks: int) -> None:
    """The slowest rank carries at most 2 % more than the mean on long-tailed lengths."""
    draw = np.random.default_rng(0)
    for _ in range(20):
        lengths = np.clip(draw.lognormal(3.5, 0.9, 128), 4, 384).astype(np.int64)
        loads = [lengths[share].sum() for share in split_over_ranks(lengths, ranks)]
        assert max(loads) <= 1.02 * np.mean(loads)


def test_a_packed_micro_batch_holds_what_the_stores_hold(data: list[TaskData]) -> None:
    """Tokens, reads, targets and weights of every feature survive packing."""
    pack = packer(data)
    members = batch(pack)
    packed = pack.pack(members, len(members))
    assert list(packed.stream.lengths) == sorted(packed.stream.lengths)
    seen = set()
    for task, rows in packed.tasks.items():
        store = pack.stores[task]
        starts = np.cumsum([0, *rows.splits.sizes])
        for place, feature in enumerate(rows.features.tolist()):
            reads = rows.reads_R[starts[place] : starts[place + 1]]
            expected = store.ids(feature)[store.reads(feature)].astype(np.int64)
            assert packed.stream.ids_T[reads].tolist() == expected.tolist()
            seen.add((task, feature))
        targets = data[task].format.collate([store.target(f) for f in rows.features.tolist()])
        assert torch.equal(rows.targets, targets)
        assert torch.allclose(rows.weights_B, torch.tensor(1 / 32))
    assert seen == set(zip(members.tasks_B.tolist(), members.features_B.tolist(), strict=True))


@pytest.mark.parametrize("in_step", [False, True])
def test_the_ranks_together_hold_the_batch(data: list[TaskData], *, in_step: bool) -> None:
    """Weights over all ranks and micro-batches add up to one; fillers weigh nothing."""
    pack = packer(data, max_tokens=60)
    members = batch(pack)
    steps = [Loader(pack, World(rank, 3, CPU), in_step).step(members) for rank in range(3)]
    assert sum(map(weight, steps)) == pytest.approx(1.0)
    if in_step:
        assert len({len(step.micro_batches) for step in steps}) == 1
    assert {step.tokens for step in steps} == {int(pack.lengths(members).sum())}


def test_a_rank_without_features_runs_one_filler(data: list[TaskData]) -> None:
    """With fewer features than ranks the others still take part, with weight zero."""
    pack = packer(data)
    members = batch(pack, size=2)
    steps = [Loader(pack, World(rank, 4, CPU), in_step=False).step(members) for rank in range(4)]
    weights = [
        sum(
            float(rows.weights_B.sum())
            for part in step.micro_batches
            for rows in part.tasks.values()
        )
        for step in steps
    ]
    assert all(step.micro_batches for step in steps)
    assert sorted(weights) == pytest.approx([0.0, 0.0, 0.5, 0.5])


def test_packing_ahead_changes_nothing(data: list[TaskData]) -> None:
    """Steps from the thread equal those packed one by one, in order."""
    pack = packer(data)
    pool = Pool([len(store) for store in pack.stores], 16, seed=3)
    loader = Loader(pack, World(0, 1, CPU), in_step=False)
    for ahead, members in zip(loader.steps(pool.epoch(1)), pool.epoch(1), strict=True):
        alone = loader.step(members)
        assert len(ahead.micro_batches) == len(alone.micro_batches)
        for one, two in zip(ahead.micro_batches, alone.micro_batches, strict=True):
            assert torch.equal(one.stream.ids_T, two.stream.ids_T)


def test_an_error_while_packing_reaches_the_loop(
    data: list[TaskData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails in the thread is raised where the step is asked for."""
    pack = packer(data)

    def fail(*_: object) -> None:
        raise OSError("disk gone")

    monkeypatch.setattr(pack, "pack", fail)
    with pytest.raises(OSError, match="disk gone"):
        next(Loader(pack, World(0, 1, CPU), in_step=False).steps([batch(pack)]))
