"""Scores and losses of every task on one split, packed, over all ranks.

Shapes: B features, N features of the split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from mtlplug.batching.loader import Loader
from mtlplug.batching.micro_batch import MicroBatch
from mtlplug.batching.mixing import Members, Pool
from mtlplug.batching.packing import Packer
from mtlplug.data.build import TaskData
from mtlplug.errors import MtlplugError
from mtlplug.model.multitask import Output
from mtlplug.world import World

FEATURES_AT_ONCE = 2048
"""Features planned together: sorted by length over all tasks, split over the ranks."""


@dataclass(frozen=True)
class Evaluator:
    """Evaluates all tasks on one split.

    Attributes:
        data: the tasks, their formats and stores.
        split: the split to score.
        max_tokens: token budget of a micro-batch.
        world: the processes of the run; each scores its share.
        in_step: give every rank the same number of micro-batches (from ZeRO-2 on).
        pair_cost: what a pair of tokens costs, in tokens (`Packer`).
    """

    data: Sequence[TaskData]
    split: str
    max_tokens: int
    world: World
    in_step: bool = False
    pair_cost: float = 0.0

    def __call__(
        self,
        forward: Callable[[MicroBatch], Output],
        between: Callable[[], None] = lambda: None,
    ) -> dict[str, dict[str, float]]:
        """Loss and metrics of each task by name, the same on every rank.

        The loss of a task is the mean of `TaskFormat.loss` over the features of its split.

        Args:
            forward: losses and scores of a micro-batch.
            between: called now and then, equally often on every rank.
        """
        results = self.predict(forward, between)
        scores = self._scores(results) if self.world.main else {}
        return dict(self.world.broadcast(scores))

    def predict(
        self,
        forward: Callable[[MicroBatch], Output],
        between: Callable[[], None] = lambda: None,
    ) -> list[dict[int, tuple[float, Any]]]:
        """Loss and prediction of each feature, by task and number, on rank 0."""
        results: list[dict[int, tuple[float, Any]]] = [{} for _ in self.data]
        stores = [each.stores[self.split] for each in self.data]
        formats = [each.format for each in self.data]
        packer = Packer(stores, formats, [1.0] * len(stores), self.max_tokens, self.pair_cost)
        loader = Loader(packer, self.world, self.in_step)
        with torch.no_grad():
            for step in loader.steps(self._batches(packer)):
                between()
                for micro_batch in step.micro_batches:
                    self._collect(micro_batch, forward, results)
                    if self.world.size == 1:
                        between()
        return _merged(self.world.gather(results))

    def _batches(self, packer: Packer) -> list[Members]:
        """All features, the longest first, in parts that are planned together."""
        pool = Pool([len(store) for store in packer.stores], FEATURES_AT_ONCE, seed=0)
        everything = pool.members(np.arange(len(pool)))
        order = np.argsort(-packer.lengths(everything), kind="stable")
        return [
            everything.take(order[first : first + FEATURES_AT_ONCE])
            for first in range(0, len(order), FEATURES_AT_ONCE)
        ]

    def _collect(
        self,
        micro_batch: MicroBatch,
        forward: Callable[[MicroBatch], Output],
        results: list[dict[int, tuple[float, Any]]],
    ) -> None:
        output = forward(micro_batch.to(self.world.device))
        for number, rows in micro_batch.tasks.items():
            data = self.data[number]
            scores = tree_map(_on_host, output.scores[number])
            predictions = data.format.decode(data.task, scores, rows.splits)
            losses = output.losses[number].tolist()
            if len(predictions) != len(losses):
                raise MtlplugError(
                    f"format {data.format.code} decoded {len(predictions)} predictions for "
                    f"{len(losses)} features of task '{data.task.name}'; it should be one each"
                )
            for feature, loss, prediction in zip(
                rows.features.tolist(), losses, predictions, strict=True
            ):
                results[number][feature] = (loss, prediction)

    def _scores(
        self, results: Sequence[Mapping[int, tuple[float, Any]]]
    ) -> dict[str, dict[str, float]]:
        scores = {}
        for data, mine in zip(self.data, results, strict=True):
            store = data.stores[self.split]
            numbers = range(len(store))
            metrics = data.format.metrics(
                data.task,
                [mine[number][1] for number in numbers],
                [store.reference(number) for number in numbers],
            )
            headline = data.task.metric or data.format.headline
            if headline not in metrics:
                raise MtlplugError(
                    f"task '{data.task.name}' is ranked by '{headline}', which format "
                    f"{data.format.code} does not compute; it computes: {', '.join(metrics)}"
                )
            loss = float(np.mean([mine[number][0] for number in numbers]))
            scores[data.task.name] = {"loss": loss, **metrics, "headline": metrics[headline]}
        return scores


def _merged(
    gathered: Sequence[Sequence[Mapping[str, tuple[float, Any]]]],
) -> list[dict[int, tuple[float, Any]]]:
    """The results of all ranks, by task and feature; JSON has made texts of their numbers."""
    merged: list[dict[int, tuple[float, Any]]] = [{} for _ in gathered[0]] if gathered else []
    for of_rank in gathered:
        for task, results in enumerate(of_rank):
            merged[task].update({int(number): each for number, each in results.items()})
    return merged


def _on_host(leaf: Any) -> Any:
    return leaf.cpu() if isinstance(leaf, Tensor) else leaf


def mean_loss(scores: Mapping[str, Mapping[str, float]]) -> float:
    """The mean over tasks of their mean losses (Padmakumar et al., 2022, appendix B.2)."""
    return float(np.mean([each["loss"] for each in scores.values()]))
