"""How the losses of tasks are weighted: `--weighting NAME` or `--weighting NAME:PARAMETER`.

A weighting is a module called once in every forward pass as `weighting(losses_B, tasks_B, reads_B)`
with what each feature of the micro-batch has: its loss, the number of its task, and how many rows
its head read. It gives each feature another loss, and the loss of a batch is the mean of those, so
that the gradient of a step is still that of a mean over the whole batch, whatever the ranks and
micro-batches. A feature's loss must therefore follow from its own, its task, its rows and the
module's parameters alone.

Shapes: B features of a micro-batch, task by task; T tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mtlplug.errors import MtlplugError
from mtlplug.formats import Task
from mtlplug.plugin_registry import Registry

Make = Callable[[Sequence[Task]], nn.Module | None]
"""Makes the module for tasks, which are prepared: their labels are known. None: losses as they are
(Padmakumar et al., 2022, section 3.2)."""

Factory = Callable[[str], Make]
"""Gives what makes the module, for what stands behind the colon."""


class LogNumLabels(nn.Module):
    """A feature's loss over log n, where n answers are possible (Aghajanyan et al., 2021).

    A model that guesses evenly then has a loss of 1 on every task. n is the number of the task's
    labels; a task without labels chooses among what it reads, the positions of a context or the
    choices of a question, so there n is the number of rows that the feature reads. Where n is
    below 2 (a regression reads one row) the loss stays as it is.
    """

    labels_T: Tensor

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.register_buffer("labels_T", torch.tensor([len(task.labels) for task in tasks]))

    def forward(self, losses_B: Tensor, tasks_B: Tensor, reads_B: Tensor) -> Tensor:
        """Each loss over the log of what its feature chooses from."""
        labels_B = self.labels_T[tasks_B]
        choices_B = torch.where(labels_B > 0, labels_B, reads_B)
        return losses_B / torch.where(choices_B > 1, choices_B.float().log(), 1.0)


class Uncertainty(nn.Module):
    """exp(-s_t) times the loss, plus s_t / 2, with a learned s_t = log sigma_t^2 for each task.

    Kendall et al. (2018), equation 10, for every feature by itself: the mean over a batch is their
    sum over tasks, each in proportion to its features. s_t begins at 0; losses may become negative.

    Attributes:
        rate_factor: AdamW moves every parameter by about the learning rate; at that of an encoder
            s_t would hardly change in a run, so its own is so many times as large.
    """

    rate_factor = 100.0

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.log_variances_T = nn.Parameter(torch.zeros(len(tasks)))

    def forward(self, losses_B: Tensor, tasks_B: Tensor, reads_B: Tensor) -> Tensor:
        """The loss of each feature, weighted."""
        log_variances_B = self.log_variances_T.float()[tasks_B]
        return torch.exp(-log_variances_B) * losses_B + log_variances_B / 2


def _without_parameter(make: Make, parameter: str) -> Make:
    if parameter:
        raise MtlplugError(f"it takes no parameter, and got '{parameter}'")
    return make


OURS: Mapping[str, Factory] = {
    "none": partial(_without_parameter, lambda tasks: None),
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
