"""mtlplug.model.weighting: the loss of a batch is the mean of what a weighting makes of losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mtlplug.batching.mixing import Members, Pool
from mtlplug.batching.packing import Packer
from mtlplug.data.build import TRAIN, TaskData
from mtlplug.errors import MtlplugError
from mtlplug.formats import Task
from mtlplug.model.multitask import MultiTaskModel
from mtlplug.model.weighting import make_weighting
from mtlplug.plugin_registry import Registry
from mtlplug.training.engine import parameter_groups
from mtlplug.training.pretrain import new_model
from tests import toy

WEIGHTS = [1.0, 2.0, 1.0, 0.5, 1.0]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[TaskData]:
    """Five tiny tasks of three formats."""
    return toy.task_data(tmp_path_factory.mktemp("stores"))


def model_of(data: list[TaskData], text: str, registry: Registry | None = None) -> MultiTaskModel:
    """The same model under a weighting, without dropout."""
    return new_model(toy.encoder(), data, 1, make_weighting(text, registry or Registry())).eval()


def packer_of(data: Sequence[TaskData]) -> Packer:
    """Packs with task weights of their own."""
    stores = [each.stores[TRAIN] for each in data]
    return Packer(stores, [each.format for each in data], WEIGHTS, 10**6)


def batch_of(data: Sequence[TaskData]) -> Members:
    """The features of a batch of all tasks."""
    return next(Pool([len(each.stores[TRAIN]) for each in data], 48, seed=2).epoch(0))


def by_hand(model: MultiTaskModel, data: list[TaskData], scale: list[float]) -> Tensor:
    """The mean over features of task weight, scale and the feature's loss, one task at a time."""
    pack, members = packer_of(data), batch_of(data)
    total = torch.zeros(())
    for task, factor in enumerate(scale):
        mine = members.take((members.tasks_B == task).nonzero()[0])
        if len(mine):
            batch = pack.pack(mine, 1)
            rows = batch.tasks[task]
            hidden_TD = model.encoder(batch.stream)
            scores = model.heads[task](batch.rows.of_tokens(hidden_TD)[task], rows.splits)
            losses_B = data[task].format.loss(scores, rows.targets, rows.splits)
            sizes_B = torch.tensor([float(size) for size in rows.splits.sizes])
            factor_B = torch.full_like(losses_B, factor) if factor else 1 / sizes_B.log()
            total = total + (losses_B * factor_B).sum() * WEIGHTS[task]
    return total / len(members)


def gradients(model: MultiTaskModel, loss: Tensor) -> dict[str, Tensor]:
    """Of every parameter, by name."""
    model.zero_grad()
    loss.backward()
    return {
        name: torch.zeros_like(each) if each.grad is None else each.grad.clone()
        for name, each in model.named_parameters()
    }


def test_the_default_is_the_mean_of_the_losses(data: list[TaskData]) -> None:
    """Without a weighting nothing but the tasks' own weights comes in."""
    model = model_of(data, "none")
    loss = model(packer_of(data).pack(batch_of(data), 48)).loss
    torch.testing.assert_close(loss, by_hand(model, data, [1.0] * 5))
    assert model.weighting is None


def test_the_gradient_of_log_num_labels(data: list[TaskData]) -> None:
    """It is that of each loss over the log of its labels, or of the positions read (QA)."""
    model = model_of(data, "log_num_labels")
    labels = [len(each.task.labels) for each in data]
    assert labels[3] == 0
    assert min(labels[:3]) > 1
    scale = [1 / math.log(number) if number else 0.0 for number in labels]  # 0: by positions
    ours = gradients(model, model(packer_of(data).pack(batch_of(data), 48)).loss)
    theirs = gradients(model, by_hand(model, data, scale))
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-5, atol=1e-7)


def test_log_num_labels_without_a_choice() -> None:
    """One label, or one row read (a regression), leaves the loss as it is: no division by zero."""
    tasks = [Task("one", "C", labels=("a",)), Task("number", "REG"), Task("choice", "MC")]
    weighting = make_weighting("log_num_labels", Registry())(tasks)
    assert weighting is not None
    tasks_B, reads_B = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([5, 1, 1, 2, 4])
    expected = torch.tensor([1, 1, 1, 1 / math.log(2), 1 / math.log(4)])
    torch.testing.assert_close(weighting(torch.ones(5), tasks_B, reads_B), expected)


def test_log_num_labels_divides_by_what_the_format_chooses_from() -> None:
    """Yes or no, rows whatever the labels, a sum of two choices, and nothing at all."""
    labels = ("a", "b", "c", "d")
    chooses: list[tuple[str | int, ...]] = [(2,), ("reads",), ("reads", "labels"), (), ("labels",)]
    tasks = [Task("t", "X", labels=labels, chooses=each) for each in chooses]
    weighting = make_weighting("log_num_labels", Registry())(tasks)
    assert weighting is not None
    losses_B = torch.tensor([2, 3, 3 * 4, math.e, 4.0]).log()
    found_B = weighting(losses_B, torch.arange(5), torch.tensor([1, 3, 3, 9, 9]))
    torch.testing.assert_close(found_B, torch.ones(5))


def test_the_gradient_of_uncertainty(data: list[TaskData]) -> None:
    """exp(-s) L + s / 2 for each feature (Kendall et al., 2018): weights and s alike."""
    model = model_of(data, "uncertainty")
    logs_T = model.get_parameter("weighting.log_variances_T")
    assert logs_T.tolist() == [0.0] * 5
    with torch.no_grad():
        logs_T.copy_(torch.tensor([0.3, -0.2, 0.5, -1.0, 0.0]))
    output = model(packer_of(data).pack(batch_of(data), 48))
    ours = gradients(model, output.loss)
    scale = torch.exp(-logs_T.detach()).tolist()
    theirs = gradients(model, by_hand(model, data, scale))
    assert output.losses  # as the formats gave them
    for name, gradient in theirs.items():
        if name != "weighting.log_variances_T":
            torch.testing.assert_close(ours[name], gradient, rtol=1e-5, atol=1e-7)
    expected = torch.zeros(5)
    for task, losses_B in output.losses.items():
        per_feature_B = 0.5 - scale[task] * losses_B
        expected[task] = per_feature_B.sum() * WEIGHTS[task] / 48
    torch.testing.assert_close(ours["weighting.log_variances_T"], expected)


def test_what_is_learned_has_a_rate_of_its_own(data: list[TaskData]) -> None:
    """Log variances are a group by themselves, without decay; weights are where they were."""
    model = model_of(data, "uncertainty")
    decayed, others, own = parameter_groups(model, 0.1)
    assert [each.shape for each in own["params"]] == [(5,)]
    assert (own["weight_decay"], own["rate_factor"]) == (0.0, 100.0)
    assert len(decayed["params"]) + len(others["params"]) + 1 == len(list(model.parameters()))
    assert len(parameter_groups(model_of(data, "none"), 0.0)) == 1


class Hard(nn.Module):
    """Counts losses above a threshold alone."""

    def forward(self, losses_B: Tensor, tasks_B: Tensor, reads_B: Tensor) -> Tensor:
        """Zero for the others."""
        return losses_B * (losses_B > 1.0)


class Reduced(nn.Module):
    """Reduces further, which is not its business."""

    def forward(self, losses_B: Tensor, tasks_B: Tensor, reads_B: Tensor) -> Tensor:
        """One number."""
        return losses_B.mean()


def test_mtlplug_weightings_of_a_plugin(data: list[TaskData], tmp_path: Path) -> None:
    """They are named like ours; one that gives no loss for each feature is refused by name."""
    registry = Registry()
    brought = {"hard": lambda _: lambda tasks: Hard(), "reduced": lambda _: lambda tasks: Reduced()}
    registry.add("plugin 'x' of one 1.5", {"loss weighting": brought}, "")
    batch = packer_of(data).pack(batch_of(data), 48)
    output = model_of(data, "hard", registry)(batch)
    counted = sum(
        (losses_B * (losses_B > 1)).sum() * WEIGHTS[task]
        for task, losses_B in output.losses.items()
    )
    torch.testing.assert_close(output.loss.detach(), counted / 48)
    with pytest.raises(
        MtlplugError, match=r"loss weighting Reduced returned losses of shape \(\) for 48"
    ):
        model_of(data, "reduced", registry)(batch)
    with pytest.raises(MtlplugError, match="unknown loss weighting 'soft'; known: hard, log_num"):
        make_weighting("soft", registry)
    with pytest.raises(MtlplugError, match="'none:1': it takes no parameter, and got '1'"):
        make_weighting("none:1", registry)
