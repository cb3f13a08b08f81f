"""mtlplug.training.evaluation and stopping."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pytest
import torch

from mtlplug.batching.packing import Packer
from mtlplug.data.build import TaskData
from mtlplug.errors import MtlplugError
from mtlplug.model.multitask import MultiTaskModel
from mtlplug.training.evaluation import Evaluator, mean_loss
from mtlplug.training.pretrain import new_model
from mtlplug.training.stopping import EarlyStopping
from mtlplug.world import World
from tests import toy

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[TaskData]:
    """Stored toy tasks of three formats."""
    return toy.task_data(tmp_path_factory.mktemp("stores"))


@pytest.fixture(scope="module")
def model(data: list[TaskData]) -> MultiTaskModel:
    """A model in evaluation mode."""
    return new_model(toy.encoder(), data, seed=1).eval()


def test_losses_and_metrics_equal_those_of_features_one_by_one(
    data: list[TaskData], model: MultiTaskModel
) -> None:
    """Packing, order and micro-batches change neither the mean loss nor a metric."""
    packed = Evaluator(data, "valid", 80, ALONE)(model)
    for number, each in enumerate(data):
        store = each.stores["valid"]
        packer = Packer([store], [each.format], [1.0], 10**6)
        one_task = MultiTaskModel(model.encoder, [each.task], [each.format], [1])
        one_task.heads[0] = model.heads[number]
        one_task.eval()
        losses, predictions = [], []
        for members in (packer_members(packer, feature) for feature in range(len(store))):
            batch = packer.pack(members, 1)
            output = one_task(batch)
            losses.append(float(output.losses[0][0]))
            splits = batch.tasks[0].splits
            predictions += each.format.decode(each.task, output.scores[0], splits)
        references = [store.reference(feature) for feature in range(len(store))]
        metrics = each.format.metrics(each.task, predictions, references)
        ours = packed[each.task.name]
        assert ours["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
        assert ours["headline"] == pytest.approx(metrics[each.format.headline])


def packer_members(packer: Packer, feature: int) -> Any:
    """One feature as a batch."""
    from mtlplug.batching.mixing import Pool

    return Pool([len(packer.stores[0])], 1, 0).members(torch.tensor([feature]).numpy())


def test_two_ranks_score_what_one_scores(
    data: list[TaskData], model: MultiTaskModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rank runs its share; together they have every feature."""
    shares: list[Any] = []

    def keep(self: World, value: Any) -> list[Any]:
        shares.append(value)
        return shares if len(shares) == 2 else [value]

    alone = Evaluator(data, "valid", 80, ALONE)(model)
    monkeypatch.setattr(World, "gather", keep)
    monkeypatch.setattr(World, "broadcast", lambda self, value: value)
    Evaluator(data, "valid", 80, World(1, 2, ALONE.device))(model)
    both = Evaluator(data, "valid", 80, World(0, 2, ALONE.device))(model)
    sizes = [[len(task) for task in share] for share in shares]
    assert all(sum(pair) >= 12 for pair in zip(*sizes, strict=True))
    for task, scores in alone.items():
        assert both[task] == pytest.approx(scores, rel=1e-5)


def test_an_unknown_metric_is_an_error_that_lists_the_known(
    data: list[TaskData], model: MultiTaskModel
) -> None:
    """A task ranked by what its format does not compute is named."""
    task = dataclasses.replace(data[0].task, metric="bleu")
    wrong = [dataclasses.replace(data[0], task=task), *data[1:]]
    with pytest.raises(MtlplugError, match=r"'bleu'.*computes: .*f1"):
        Evaluator(wrong, "valid", 80, ALONE)(model)


def test_the_mean_loss_is_over_tasks_not_rows() -> None:
    """A large task counts as much as a small one (Padmakumar et al., appendix B.2)."""
    assert mean_loss({"a": {"loss": 1.0}, "b": {"loss": 4.0}}) == 2.5


@pytest.mark.parametrize(
    ("losses", "patience", "stops_after", "best"),
    [
        ([5, 4, 3, 3.5, 3.1, 3.0], 3, 6, 2),  # an equal loss is no improvement
        ([5, 4, 4.5, 4.4, 3.9, 5, 5, 5], 3, 8, 4),
        ([5, 6, 7, 8, 9], 0, None, 0),  # patience 0 never stops
        ([float("nan"), 2.0, float("nan"), float("nan")], 2, 4, 1),
    ],
)
def test_stopping_waits_for_patience_and_remembers_the_best(
    losses: Sequence[float], patience: int, stops_after: int | None, best: int
) -> None:
    """Stops after `patience` epochs in a row without a lower loss; state survives a restart."""
    stopping = EarlyStopping(patience)
    stopped = None
    for epoch, loss in enumerate(losses):
        stopping.update(epoch, loss)
        stopping = EarlyStopping(**asdict(stopping))
        if stopping.stop and stopped is None:
            stopped = epoch + 1
    assert stopped == stops_after
    assert stopping.best_epoch == best
