"""mtlplug.training.guard: numbers that go wrong end a run, are named, and are never saved."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mtlplug.batching.loader import Step
from mtlplug.data.build import TaskData
from mtlplug.errors import MtlplugError
from mtlplug.training import guard as guard_module
from mtlplug.training.engine import Engine
from mtlplug.training.guard import OVERFLOWS, Guard
from mtlplug.training.progress import Progress, exploded
from mtlplug.training.stopping import EarlyStopping
from tests import small_suite, toy
from tests.training.runs import lines, run
from tests.training.test_zero import new_engine, steps


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[TaskData]:
    """Stored toy tasks of three formats."""
    return toy.task_data(tmp_path_factory.mktemp("stores"))


def broken(value: float, *, training_only: bool = False) -> Any:
    """A hook after which the scores of a head are no numbers."""

    def hook(head: torch.nn.Module, _: Any, scores: torch.Tensor) -> torch.Tensor:
        return scores * (value if head.training or not training_only else 1.0)

    return hook


def take(engine: Engine, guard: Guard, number: int, step: Step) -> None:
    """A guarded step."""
    guard.before(number, step, engine.accumulate_all(step))
    engine.update()
    guard.after(number, step)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_tasks_and_examples_are_named(data: list[TaskData], stage: int) -> None:
    """The step whose loss is no number, and of which tasks; the others are not."""
    engine = new_engine(data, "fp32", zero_optimization={"stage": stage})
    guard = Guard(engine)
    first, second = steps(data, engine.world, 2)
    engine.step(first)
    guard.after(1, first)
    engine.model.heads[1].projection.register_forward_hook(broken(math.nan))
    with pytest.raises(MtlplugError, match=r"in step 2: task '\w+', training examples \d") as told:
        take(engine, guard, 2, second)
    names = [each.task.name for each in data]
    assert f"task '{names[1]}'" in str(told.value)
    assert f"task '{names[0]}'" not in str(told.value)
    engine.engine.destroy()


def test_a_gradient_without_a_culprit(data: list[TaskData]) -> None:
    """Where each loss is a number without dropout, the largest is named."""
    engine = new_engine(data, "fp32")
    guard = Guard(engine)
    _, step = steps(data, engine.world, 2)
    engine.model.heads[1].register_forward_hook(broken(math.inf, training_only=True))
    with pytest.raises(MtlplugError, match=r"though each loss is one .* of task"):
        take(engine, guard, 1, step)
    engine.engine.destroy()


@pytest.mark.parametrize("stage", [0, 1])
def test_a_gradient_that_is_no_number_beside_a_loss_that_is(
    data: list[TaskData], stage: int
) -> None:
    """Clipping would spread it over all weights; without ZeRO nobody else looks."""
    engine = new_engine(data, "fp32", zero_optimization={"stage": stage})
    guard = Guard(engine)
    _, step = steps(data, engine.world, 2)
    weight = engine.model.heads[1].projection.weight
    weight.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(MtlplugError, match=r"in step 1"):
        take(engine, guard, 1, step)
    engine.engine.destroy()


def test_overflows_of_fp16_are_ordinary_until_there_are_many() -> None:
    """A finite step in between starts the count anew."""
    norms = [math.inf] * (OVERFLOWS - 1) + [1.0] + [math.inf] * OVERFLOWS
    found = iter(norms)
    engine = SimpleNamespace(
        precision="fp16", engine=SimpleNamespace(get_global_grad_norm=lambda: next(found))
    )
    guard = Guard(engine)  # type: ignore[arg-type]
    for number in range(len(norms) - 1):
        guard.after(number, None)  # type: ignore[arg-type]
    with pytest.raises(MtlplugError, match=r"fp16 in 50 steps in a row.*--precision bf16"):
        guard.after(len(norms), None)  # type: ignore[arg-type]


def test_a_device_is_looked_at_one_step_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are looked at in their order, also where DeepSpeed tells an overflow at once."""
    read = []

    class Stand:
        """For a number that a device computes."""

        def __init__(self, number: Any) -> None:
            self.number = number

        def __float__(self) -> float:
            read.append(float(self.number))
            return read[-1]

    class OnDevice(torch.Tensor):
        """A tensor that says that it is on a GPU."""

        is_cuda = True

    monkeypatch.setattr(guard_module, "OnItsWay", Stand)
    norm = torch.tensor(1.0).as_subclass(OnDevice)
    norms: list[Any] = [norm, norm]
    norms += [math.inf, norm] * (OVERFLOWS + 1)
    found = iter(norms)
    engine = SimpleNamespace(
        precision="fp16", engine=SimpleNamespace(get_global_grad_norm=lambda: next(found))
    )
    guard = Guard(engine)  # type: ignore[arg-type]
    guard.after(1, None)  # type: ignore[arg-type]
    assert read == []
    guard.after(2, None)  # type: ignore[arg-type]
    assert read == [1.0]
    for number in range(3, len(norms) + 1):  # overflows that come and go are no reason to stop
        guard.after(number, None)  # type: ignore[arg-type]
    assert read == [1.0] * (1 + 1 + OVERFLOWS)
    guard.settle()
    assert len(read) == 2 + OVERFLOWS + 1


def test_a_run_stops_before_anything_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence, exit code 2, and the same command goes on from before."""
    suite, folder = small_suite.write(tmp_path), tmp_path / "run"
    update = Engine.update

    def poisoned(engine: Engine) -> None:
        if engine.engine.global_steps == 12:
            for parameter in engine.model.parameters():
                parameter.grad = torch.full_like(parameter, math.nan)
            engine.model.encoder.register_forward_hook(lambda *each: each[-1] * math.nan)
        update(engine)

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "update", poisoned)
        result = run(suite, folder, "--save-minutes", "0")
    assert result.exit_code == 2
    assert "is not a number in step 1" in result.stderr
    assert run(suite, folder).exit_code == 0
    assert all(math.isfinite(line["loss"]) for line in lines(folder) if line["event"] == "step")


def test_exploded_losses_are_named() -> None:
    """Several times the lowest, and worse than before training."""
    before = {"a": {"loss": 2.0}, "b": {"loss": 2.0}, "c": {"loss": 2.0}}
    progress = Progress(EarlyStopping(3), untrained=before, lowest={"a": 0.5, "b": 0.1, "c": 1.9})
    after = {"a": {"loss": 2.1}, "b": {"loss": 1.0}, "c": {"loss": 2.5}}
    assert exploded(after, progress) == ["a"]
