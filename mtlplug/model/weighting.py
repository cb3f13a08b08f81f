"""How the losses of tasks are weighted: `--weighting NAME` or `--weighting NAME:PARAMETER`.

A weighting is a module called with the losses of the features of each task present in a
micro-batch. It gives each feature another loss, and the loss of a batch is the mean of those, so
that the gradient of a step is still that of a mean over the whole batch, whatever the ranks and
micro-batches. Each feature's loss must therefore follow from its own, its task and the module's
parameters alone.

Shapes: B features of one task, T tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mtlplug.errors import MtlplugError
from mtlplug.formats import Task
from mtlplug.plugin_registry import Registry
from mtlplug.ragged import Splits

Make = Callable[[Sequence[Task]], nn.Module]
"""Makes the module for tasks, which are prepared: their labels are known."""

Factory = Callable[[str], Make]
"""Gives what makes the module, for what stands behind the colon."""

Losses = dict[int, Tensor]
"""Of each task present, by its number: one of each feature, (B,)."""

class Unweighted(nn.Module):
    """Losses as they are (Padmakumar et al., 2022, section 3.2)."""

    def forward(self, losses: Losses, splits: Mapping[int, Splits]) -> Losses:
        """The same losses."""
        return losses


class LogNumLabels(nn.Module):
    """A feature's loss over log n, where n answers are possible (Aghajanyan et al., 2021, 3.2).

    A model that guesses evenly then has a loss of 1 on every task. n is the number of the task's
    labels; a task without labels chooses among what it reads, the positions of a context or the
    choices of a question, so there n is the number of rows that the feature reads. Where n is
    below 2 (a regression reads one row) the loss stays as it is.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.labels = tuple(len(task.labels) for task in tasks)

    def forward(self, losses: Losses, splits: Mapping[int, Splits]) -> Losses:
        """Each loss over the log of what its feature chooses from."""
        found = {}
        for task, losses_B in losses.items():
            sizes_B = _sizes(splits[task]).to(losses_B.dtype)
            if self.labels[task]:
                sizes_B = torch.full_like(losses_B, self.labels[task])
            logs_B = torch.where(sizes_B > 1, sizes_B.log(), 1.0)
            found[task] = losses_B / logs_B
        return found


class Uncertainty(nn.Module):
    """exp(-s_t) times the loss, plus s_t / 2, with a learned s_t = log sigma_t^2 for each task.

    Kendall et al. (2018), equation 10, for every feature by itself: the mean over a batch is their
    sum over tasks, each in proportion to its features. s_t begins at 0.

    Attributes:
        rate_factor: AdamW moves every parameter by about the learning rate; at that of an encoder
            s_t would hardly change in a run, so its own is so many times as large.
    """

    rate_factor = 100.0

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.log_variances_T = nn.Parameter(torch.zeros(len(tasks)))

    def forward(self, losses: Losses, splits: Mapping[int, Splits]) -> Losses:
        """The loss of each feature, weighted; may become negative."""
        logs_T = self.log_variances_T.float()
        return {
            task: torch.exp(-logs_T[task]) * losses_B + logs_T[task] / 2
            for task, losses_B in losses.items()
        }


def _without_parameter(make: Make, parameter: str) -> Make:
    if parameter:
        raise MtlplugError(f"it takes no parameter, and got '{parameter}'")
    return make


OURS: Mapping[str, Factory] = {
    "none": partial(_without_parameter, lambda tasks: Unweighted()),
    "log_num_labels": partial(_without_parameter, LogNumLabels),
    "uncertainty": partial(_without_parameter, Uncertainty),
}


def make_weighting(text: str, registry: Registry) -> Make:
    """What makes the weighting that `--weighting` names, ours or a plugin's.

    Raises:
        MtlplugError: there is none of this name, or its parameter is wrong.
    """
    make: Make = registry.make("loss weighting", text, OURS)
    return make


def _sizes(splits: Splits) -> Tensor:
    """Rows of each feature, (B,), without asking the device for anything."""
    total = splits.starts_B.new_full((1,), len(splits.index_R))
    return torch.diff(splits.starts_B, append=total)
