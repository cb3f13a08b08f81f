"""Formats like C whose heads do what ZeRO-3 alone would not bear; a plugin, for tests."""

from __future__ import annotations

from typing import Any

import torch
from mtlplug_c import Classification
from torch import Tensor, nn

import mtlplug
from mtlplug.formats import Task
from mtlplug.heads import SequenceHead
from mtlplug.ragged import Splits, split


class OneEach(SequenceHead):
    """As many tensors as features."""

    def forward(self, rows_RD: Tensor, splits: Splits) -> Any:
        """For each feature a score of each label."""
        return list(split(super().forward(rows_RD, splits), splits))


class Loop(SequenceHead):
    """Calls its layers once for each feature."""

    def forward(self, rows_RD: Tensor, splits: Splits) -> Any:
        """Scores of every feature."""
        each = [super(Loop, self).forward(rows, splits) for rows in split(rows_RD, splits)]
        return torch.cat(each)


class Bare(SequenceHead):
    """Computes with a parameter of its own, and returns it; no loss reads its last scores."""

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__(hidden_size, outputs)
        self.scale = nn.Parameter(torch.ones(outputs))

    def forward(self, rows_RD: Tensor, splits: Splits) -> Any:
        """By number: the scores, the parameter, what nothing is trained with, and no score."""
        scores_RK = super().forward(rows_RD, splits) * self.scale
        return {0: scores_RK, 1: self.scale, 2: (scores_RK.exp(), scores_RK.argmax(-1), "text")}


class _Odd(Classification):
    """Classification of texts by one of these heads."""

    made: type[SequenceHead]

    def head(self, task: Task, hidden_size: int) -> nn.Module:
        """One of these heads."""
        return self.made(hidden_size, len(task.labels))


class ListFormat(_Odd):
    """By `OneEach`."""

    code, made = "LIST", OneEach

    def loss(self, scores: Any, targets: Tensor, splits: Splits) -> Tensor:
        """Cross entropy."""
        return super().loss(torch.cat(scores), targets, splits)


class LoopFormat(_Odd):
    """By `Loop`."""

    code, made = "LOOP", Loop


class BareFormat(_Odd):
    """By `Bare`."""

    code, made = "BARE", Bare

    def loss(self, scores: Any, targets: Tensor, splits: Splits) -> Tensor:
        """Cross entropy, and a pull on the parameter."""
        return super().loss(scores[0], targets, splits) + 0.1 * scores[1].square().sum()


class Tied(SequenceHead):
    """One weight under two names."""

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__(hidden_size, outputs)
        self.again = self.dense

    def forward(self, rows_RD: Tensor, splits: Splits) -> Any:
        """Through the dense layer twice."""
        return super().forward(self.again(rows_RD), splits)  # type: ignore[misc]


class TiedFormat(_Odd):
    """By `Tied`."""

    code, made = "TIED", Tied


@mtlplug.hookimpl
def mtlplug_task_formats() -> list[Any]:
    """Called by mtlplug when it starts."""
    return [ListFormat(), LoopFormat(), BareFormat(), TiedFormat()]
