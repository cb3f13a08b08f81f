"""mtlplug.model.multitask: one encoder pass for all tasks, all heads in one order."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mtlplug_c import Classification
from torch import nn
from torch.utils._pytree import tree_leaves

from mtlplug.batching.mixing import Members, Pool
from mtlplug.batching.packing import Packer
from mtlplug.data.build import TaskData
from mtlplug.doctor.job import without_dropout
from mtlplug.errors import MtlplugError
from mtlplug.formats import Task
from mtlplug.model.multitask import MultiTaskModel
from mtlplug.ragged import Splits
from mtlplug.training.pretrain import new_model
from tests import toy


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[TaskData]:
    """Stored toy tasks of three formats."""
    return toy.task_data(tmp_path_factory.mktemp("stores"))


@pytest.fixture
def model(data: list[TaskData]) -> MultiTaskModel:
    """Encoder and heads without dropout."""
    model = new_model(toy.encoder(), data, seed=1)
    without_dropout(model)
    return model


@pytest.fixture(scope="module")
def packer(data: list[TaskData]) -> Packer:
    """Packs the training splits."""
    stores = [each.stores["train"] for each in data]
    return Packer(stores, [each.format for each in data], [1.0] * len(data), 10**6)


def members(packer: Packer, size: int) -> Members:
    """A mixed batch."""
    return next(Pool([len(store) for store in packer.stores], size, seed=2).epoch(0))


def test_a_feature_scores_the_same_alone_and_packed_with_others(
    model: MultiTaskModel, packer: Packer
) -> None:
    """Neither its neighbours nor their tasks touch a feature's loss and scores."""
    batch = members(packer, 24)
    together = model(packer.pack(batch, len(batch)))
    for place in range(len(batch)):
        one = batch.take(np.array([place]))
        task, feature = int(one.tasks_B[0]), int(one.features_B[0])
        packed = packer.pack(batch, len(batch)).tasks[task]
        where = packed.features.tolist().index(feature)
        alone = model(packer.pack(one, 1))
        torch.testing.assert_close(
            alone.losses[task][0], together.losses[task][where], atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("run", [True, False])
def test_every_head_gets_a_gradient_and_an_absent_one_exactly_zero(
    model: MultiTaskModel, packer: Packer, run: bool
) -> None:
    """All parameters have gradients on every rank; absent heads do not move, run or not."""
    model.run_absent_heads = run
    ran: list[nn.Module] = []
    for head in model.heads:
        head.register_forward_hook(lambda head, *_: ran.append(head))
    only = Members(np.zeros(4, np.int64), np.arange(4))  # features of the first task
    model(packer.pack(only, 4)).loss.backward()
    assert ran == (list(model.heads) if run else [model.heads[0]])
    for number, head in enumerate(model.heads):
        for parameter in head.parameters():
            assert parameter.grad is not None
            assert bool((parameter.grad == 0).all()) == (number != 0)


def test_absent_heads_leave_the_loss_alone(model: MultiTaskModel, packer: Packer) -> None:
    """Their zero is exact: the loss is that of the heads that are present."""
    only = Members(np.zeros(4, np.int64), np.arange(4))
    output = model(packer.pack(only, 4))
    assert float(output.loss.detach()) == pytest.approx(float(output.losses[0].mean()), abs=1e-7)


def test_scores_are_float32_and_detached(model: MultiTaskModel, packer: Packer) -> None:
    """Formats decode float32 also where the model runs in half precision."""
    batch = members(packer, 16)
    output = model.to(torch.bfloat16)(packer.pack(batch, 16))
    for leaf in tree_leaves(output.scores):
        assert leaf.dtype == torch.float32
        assert not leaf.requires_grad


def test_a_reduced_loss_is_refused_by_name(
    model: MultiTaskModel, packer: Packer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A format that takes the mean itself would weigh features wrongly; it is named."""
    batch = members(packer, 16)
    real = type(model.formats[0]).loss

    def mean(self: Any, *arguments: Any) -> torch.Tensor:
        return real(self, *arguments).mean()

    monkeypatch.setattr(type(model.formats[0]), "loss", mean)
    with pytest.raises(MtlplugError, match=r"format SL returned losses of shape \(\) for \d+"):
        model(packer.pack(batch, 16))


def test_heads_start_the_same_for_the_same_seed(data: list[TaskData], tmp_path: Path) -> None:
    """Ranks build their own model and must agree."""
    one, two, other = (new_model(toy.encoder(), data, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(
        torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)
    )


class Borrowing(Classification):
    """Scores by the encoder's input embeddings."""

    borrows = ("input_embeddings",)

    def head(self, task: Task, hidden_size: int) -> nn.Module:
        """A linear layer, and the embeddings of the first labels."""

        class Head(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = nn.Linear(hidden_size, hidden_size)

            def forward(
                self, rows_RD: torch.Tensor, splits: Splits, input_embeddings: torch.Tensor
            ) -> torch.Tensor:
                return nn.functional.linear(self.linear(rows_RD), input_embeddings[:3])

        return Head()


@pytest.mark.parametrize("run", [True, False])
def test_a_borrowed_parameter_stays_the_encoders(
    data: list[TaskData], packer: Packer, run: bool
) -> None:
    """It is counted and saved once, trained by both, and lent to heads without rows, too."""
    borrowing = [
        dataclasses.replace(each, format=Borrowing()) if each.task.format == "C" else each
        for each in data
    ]
    model = new_model(toy.encoder(), borrowing, seed=1)
    model.run_absent_heads = run
    embeddings = model.encoder.model.get_input_embeddings().weight
    loans = [head for head, parameter in model.loans() if parameter is embeddings]
    assert loans == [model.heads[1], model.heads[2]]
    assert sum(parameter is embeddings for parameter in model.parameters()) == 1
    assert [*model.heads[1].state_dict()] == ["linear.weight", "linear.bias"]
    only = Members(np.full(4, 1), np.arange(4))  # features of one of the tasks that borrow
    batch = packer.pack(only, 4)
    model(batch).loss.backward()
    assert embeddings.grad is not None
    assert 0 not in batch.stream.ids_T
    assert embeddings.grad[0].abs().sum() > 0  # of a token that only the head computes with
    for parameter in model.heads[2].parameters():
        assert parameter.grad is not None
        assert (parameter.grad == 0).all()
