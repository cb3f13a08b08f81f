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

import math
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

    A model that guesses evenly then has a loss of 1 on every task. What there is to choose from
    is the format's to say (`TaskFormat.chooses`): the choices of a question, yes or no for each of
    several labels, head and relation of a word. n is the product, as the log of a product is the
    sum of the logs. By default n is the number of the task's labels; a task without labels chooses
    among what it reads, as the positions of a context. Where n is below 2 (a regression reads one
    row) the loss stays as it is.
    """

    numbers_T: Tensor
    among_reads_T: Tensor

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__()
        factors = [_factors(task) for task in tasks]
        numbers = [math.prod(int(each) for each in these if each != "reads") for these in factors]
        self.register_buffer("numbers_T", torch.tensor(numbers))
        self.register_buffer("among_reads_T", torch.tensor(["reads" in these for these in factors]))

    def forward(self, losses_B: Tensor, tasks_B: Tensor, reads_B: Tensor) -> Tensor:
        """Each loss over the log of what its feature chooses from."""
        among_B = torch.where(self.among_reads_T[tasks_B], reads_B, 1)
        choices_B = self.numbers_T[tasks_B] * among_B
        return losses_B / torch.where(choices_B > 1, choices_B.float().log(), 1.0)


def _factors(task: Task) -> list[int | str]:
    """What a task chooses from: numbers, and "reads"."""
    chooses = task.chooses
    if chooses is None:
        chooses = ["labels" if task.labels else "reads"]
    return [len(task.labels) if each == "labels" else each for each in chooses]


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
