"""mtlplug.training.zero: what DeepSpeed's step leaves out, and what it must not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtlplug.batching.loader import Loader, Step
from mtlplug.batching.mixing import Pool
from mtlplug.batching.packing import Packer
from mtlplug.config import RunConfig
from mtlplug.data.build import TaskData
from mtlplug.doctor.gradient import difference, reference, tolerance_of
from mtlplug.doctor.job import Case, Job, Recipe, without_dropout
from mtlplug.doctor.ranks import train_on_ranks
from mtlplug.training import engine as engine_module
from mtlplug.training.deepspeed_config import resolve_deepspeed
from mtlplug.training.engine import Engine
from mtlplug.training.guard import Guard
from mtlplug.training.launch import start
from mtlplug.training.pretrain import new_model
from mtlplug.training.zero import LightStep, square_sum
from mtlplug.world import World
from tests import toy
from tests.model.small_encoders import tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[TaskData]:
    """Stored toy tasks of three formats."""
    return toy.task_data(tmp_path_factory.mktemp("stores"))


class Heavy(LightStep):
    """DeepSpeed's own step."""

    def __init__(self, *_: Any) -> None:
        self._fused = False
        self._skipped = torch.zeros(())


def new_engine(data: list[TaskData], precision: str, **sections: Any) -> Engine:
    """An engine on one rank; clipping bites."""
    config = RunConfig(precision=precision, learning_rate=1e-3, gradient_clipping=0.1)
    resolved = resolve_deepspeed(config, 1)
    for section, values in sections.items():
        resolved.setdefault(section, {}).update(values)
    model = new_model(toy.encoder(), data, seed=3)
    without_dropout(model)
    return Engine(model, config, resolved, 10**9, start())


def steps(data: list[TaskData], world: World, number: int = 4) -> Iterator[Step]:
    """Steps of several micro-batches, some without rows of some tasks."""
    stores = [each.stores["train"] for each in data]
    packer = Packer(stores, [each.format for each in data], [1.0] * len(data), 60)
    loader = Loader(packer, world, in_step=False)
    pool = Pool([len(store) for store in stores], 12, seed=3)
    for _, members in zip(range(number), pool.epoch(0), strict=False):
        yield loader.step(members)


def trained(data: list[TaskData], precision: str, **sections: Any) -> tuple[dict[str, Tensor], Any]:
    """Weights and the norms of the gradients after a few steps."""
    engine = new_engine(data, precision, **sections)
    norms = []
    for step in steps(data, engine.world):
        engine.step(step)
        norms.append(engine.gradient_norm)
    weights = engine.weights()
    engine.engine.destroy()
    return weights, norms


@pytest.mark.parametrize(
    ("precision", "sections"),
    [
        ("fp32", {}),
        ("bf16", {}),
        ("bf16", {"zero_optimization": {"stage": 2}, "data_types": {"grad_accum_dtype": "fp32"}}),
        ("fp32", {"zero_optimization": {"stage": 0}}),
        ("fp32", {"zero_optimization": {"stage": 2}}),
        ("fp32", {"zero_optimization": {"contiguous_gradients": True}}),
        ("fp32", {"optimizer": {"type": "SGD", "params": {"lr": 1e-3}}}),
    ],
    ids=lambda value: str(value).replace("'", ""),
)
def test_the_step_is_deepspeeds(
    data: list[TaskData],
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    sections: dict[str, Any],
) -> None:
    """Weights and norms are those of DeepSpeed's own step, to rounding."""
    ours, our_norms = trained(data, precision, **sections)
    monkeypatch.setattr(engine_module, "LightStep", Heavy)
    theirs, their_norms = trained(data, precision, **sections)
    if sections.get("zero_optimization") == {"stage": 0}:
        assert our_norms == their_norms == [None] * 4
    else:
        assert our_norms == pytest.approx(their_norms, rel=1e-5)
        assert min(our_norms) > 0.2  # clipping was at work
    # AdamW makes much of rounding where a gradient is next to nothing, and in bf16 one rounding
    # more or less of a weight changes the gradients that follow: so much of the way they part.
    start = dict(new_model(toy.encoder(), data, seed=3).named_parameters())
    way = torch.cat([(theirs[name] - start[name]).detach().flatten() for name in theirs])
    gap = torch.cat([(theirs[name] - ours[name]).flatten() for name in theirs])
    assert float(gap.norm() / way.norm()) < (1e-4 if precision == "fp32" else 0.03)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_that_is_not_finite_is_left_out_and_counted(
    data: list[TaskData], precision: str
) -> None:
    """Weights and the optimizer's state stay as they were; the next step goes on from there."""
    engine = new_engine(data, precision)
    first, second, third = steps(data, engine.world, 3)
    engine.step(first)
    before = engine.weights()
    hook = engine.model.heads[0].register_forward_hook(lambda *each: each[-1] * float("inf"))
    engine.step(second)
    assert engine.gradient_norm is None
    assert engine.skipped_steps == engine.skipped_steps == 1
    assert difference(engine.weights(), before)[0] == 0
    hook.remove()
    engine.step(third)
    assert engine.skipped_steps == 1
    assert 0 < difference(engine.weights(), before)[0] < 0.01
    engine.engine.destroy()


def test_no_norm_is_asked_for_where_deepspeed_is_told_so(data: list[TaskData]) -> None:
    """Then its own step is taken, and a search for overflows with it."""
    config = RunConfig(precision="fp32", gradient_clipping=0.0)
    resolved = resolve_deepspeed(config, 1)
    resolved["zero_optimization"]["compute_grad_norm"] = False
    model = new_model(toy.encoder(), data, seed=3)
    engine = Engine(model, config, resolved, 10**9, start())
    before = engine.weights()
    engine.step(next(steps(data, engine.world)))
    assert engine.gradient_norm is None
    assert difference(engine.weights(), before)[0] > 0
    engine.engine.destroy()


def test_another_optimizer_keeps_deepspeeds_search(data: list[TaskData]) -> None:
    """In bf16 an optimizer that is not fused could not leave a step out."""
    sgd = {"type": "SGD", "params": {"lr": 1e-3}}
    engine = new_engine(data, "bf16", optimizer=sgd)
    first, second = steps(data, engine.world, 2)
    engine.step(first)
    before = engine.weights()
    engine.model.heads[0].register_forward_hook(lambda *each: each[-1] * float("inf"))
    engine.step(second)
    assert engine.skipped_steps == 1
    assert difference(engine.weights(), before)[0] == 0
    engine.engine.destroy()


def test_the_norm_is_exact_for_many_numbers() -> None:
    """To a part in a million, as in float64; the norm that torch clips by is not."""
    numbers = torch.randn(12_000_001, generator=torch.Generator().manual_seed(0)) * 1e-3
    exact = float(numbers.double().square().sum())
    assert float(square_sum(numbers)) == pytest.approx(exact, rel=1e-6)
    assert float(torch.linalg.vector_norm(numbers)) ** 2 != pytest.approx(exact, rel=1e-5)
    assert float(square_sum(torch.ones(5))) == pytest.approx(5, rel=1e-6)


def test_gradients_that_are_not_contiguous_are_exact_on_two_ranks(
    data: list[TaskData], tmp_path: Path
) -> None:
    """What our own configurations set: the gradient is that of one padded process, to 1e-6."""
    tiny("bert").save_pretrained(tmp_path / "bert")
    apart = {"zero_optimization": {"stage": 1, "contiguous_gradients": False}}
    case = Case("apart", str(tmp_path / "bert"), apart)
    job = Job(tmp_path, data, Recipe(steps=4), [case])
    expected = reference(job, case.encoder)
    ranks, reason = train_on_ranks(job, 2)
    assert reason is None
    assert difference(ranks["apart"].weights, expected.weights)[0] < tolerance_of(2)


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 0.05), ("bf16", 0.1)])
def test_graphs_train_alike(data: list[TaskData], precision: str, tolerance: float) -> None:
    """Several rounds of steps, some without a graph, some recorded, some replayed."""
    found = {}
    for graphs in (False, True):
        config = RunConfig(precision=precision, learning_rate=1e-3, cuda_graphs=graphs)
        model = new_model(toy.encoder(), data, seed=3)
        without_dropout(model)
        engine = Engine(model, config, resolve_deepspeed(config, 1), 10**9, start())
        for _ in range(3):
            for step in steps(data, engine.world):
                engine.step(step)
        assert (engine.model.encoder._graphs is not None) == graphs
        if graphs:
            assert engine.model.encoder._graphs.passes > 4
        found[graphs] = engine.weights()
        engine.engine.destroy()
    began = dict(new_model(toy.encoder(), data, seed=3).named_parameters())
    way = torch.cat([(found[False][name] - began[name]).detach().flatten() for name in began])
    gap = torch.cat([(found[False][name] - found[True][name]).flatten() for name in began])
    assert float(gap.norm() / way.norm()) < tolerance


@pytest.mark.gpu
def test_no_step_in_bf16_waits_for_the_gpu(data: list[TaskData]) -> None:
    """Forward, backward and update, replayed and not, and the look at the gradient's norm."""
    config = RunConfig(precision="bf16")
    model = new_model(toy.encoder(), data, seed=3)
    engine = Engine(model, config, resolve_deepspeed(config, 1), 10**9, start())
    prepared = list(steps(data, engine.world))
    guard = Guard(engine)
    for step in prepared * 2:
        engine.step(step)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number, step in enumerate(prepared):
            engine.step(step)
            guard.after(number, step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    engine.engine.destroy()
