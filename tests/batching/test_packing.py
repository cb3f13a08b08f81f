"""mtlplug.batching.packing and loader: ranks, micro-batches and packed tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtlplug.batching.loader import Loader, Step
from mtlplug.batching.mixing import Members, Pool
from mtlplug.batching.packing import Packer
from mtlplug.data.build import TaskData
from mtlplug.data.store import FeatureStore, FeatureWriter
from mtlplug.data.tokens import Encode
from mtlplug.formats import Feature
from mtlplug.world import World
from tests import toy

CPU = torch.device("cpu")


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
    return sum(float(micro_batch.rows.weights_B.sum()) for micro_batch in step.micro_batches)


def test_the_cost_of_a_feature(tmp_path: Path, data: list[TaskData]) -> None:
    """Tokens, and pairs of tokens of one sequence: two sequences do not see each other."""
    encode = Encode(toy.tokenizer(), 32)
    one, two = encode.texts([("w1 w2 w3", None), ("w4", None)])
    writer = FeatureWriter(tmp_path / "store", references=False)
    for sequences in ((one,), (one, two)):
        writer.add(Feature(sequences, reads=[0], target=[0]))
    writer.close({})
    store = FeatureStore(tmp_path / "store")
    members = Members(np.array([0, 0, 1]), np.array([1, 0, 0]))
    pack = Packer([store, data[0].stores["train"]], [data[0].format] * 2, [1.0] * 2, 100, 0.5)
    size = int(data[0].stores["train"].lengths_N[0])
    assert pack.lengths(members).tolist() == [8, 5, size]
    assert pack.costs(members).tolist() == [8 + 17, 5 + 12.5, size + size**2 / 2]
    plain = packer(data)
    assert plain.costs(members).tolist() == plain.lengths(members).tolist()


def test_ranks_are_split_by_cost_and_micro_batches_by_tokens(data: list[TaskData]) -> None:
    """Attention counts for the ranks; the budget of a micro-batch is in tokens."""
    stores, formats = [each.stores["train"] for each in data], [each.format for each in data]
    steep = Packer(stores, formats, [1.0] * len(data), 60, pair_cost=1.0)
    members = batch(steep, size=40)
    plan = steep.plan(members, 4)
    by_cost = [sum(steep.costs(part).sum() for part in parts) for parts in plan]
    by_tokens = [
        sum(steep.costs(part).sum() for part in parts) for parts in packer(data).plan(members, 4)
    ]
    assert max(by_cost) < 1.01 * np.mean(by_cost)
    assert max(by_tokens) > max(by_cost)
    for parts in plan:
        assert all(len(part) == 1 or steep.lengths(part).sum() <= 60 for part in parts)


def test_targets_of_several_types_in_one_batch(tmp_path: Path, data: list[TaskData]) -> None:
    """Whole numbers, fractions and no target at all keep type and value, each in its task."""
    (encoded,) = Encode(toy.tokenizer(), 32).texts([("w1 w2", None)])
    targets: list[list[list[Any]]] = [[[3], [2**40, -1]], [[0.5], [0.25, 1.5]], [[], [7]]]
    stores = []
    for number, values in enumerate(targets):
        writer = FeatureWriter(tmp_path / str(number), references=False)
        for target in values:
            writer.add(Feature((encoded,), reads=[0] * len(target), target=target))
        writer.close({})
        stores.append(FeatureStore(tmp_path / str(number)))
    classes = [each.format for each in data if each.task.format == "C"]
    pack = Packer(stores, [classes[0]] * 3, [1.0] * 3, 100)
    members = Members(np.array([1, 0, 2, 1, 0, 2]), np.array([0, 1, 1, 1, 0, 0]))
    tasks = pack.pack(members, 6).tasks
    assert [tasks[n].targets.tolist() for n in range(3)] == [[2**40, -1, 3], [0.5, 0.25, 1.5], [7]]
    assert [tasks[n].targets.dtype for n in range(3)] == [torch.int64, torch.float32, torch.int64]
    assert [tasks[n].splits.sizes for n in range(3)] == [(2, 1), (1, 2), (1, 0)]


def test_a_packed_micro_batch_holds_what_the_stores_hold(data: list[TaskData]) -> None:
    """Tokens, reads, targets and weights of every feature survive packing."""
    pack = packer(data)
    members = batch(pack)
    ((part,),) = packer(data, 10**6).plan(members, 1)
    packed = pack.pack(part, len(members))
    assert list(packed.stream.lengths) == sorted(packed.stream.lengths)
    seen = set()
    for task, rows in packed.tasks.items():
        store, ids_R = pack.stores[task], packed.rows.of_tokens(packed.stream.ids_T)[task]
        starts = np.cumsum([0, *rows.splits.sizes])
        for place, feature in enumerate(rows.features.tolist()):
            reads = ids_R[starts[place] : starts[place + 1]]
            stored = store.feature(feature)
            expected = stored.tokens()[0][stored.reads(np.zeros(1, int))]
            assert reads.tolist() == expected.tolist()
            seen.add((task, feature))
        targets = data[task].format.collate([store.target(f) for f in rows.features.tolist()])
        assert torch.equal(rows.targets, targets)
    assert torch.allclose(packed.rows.weights_B, torch.tensor(1 / 32))
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
    weights = [weight(step) for step in steps]
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
