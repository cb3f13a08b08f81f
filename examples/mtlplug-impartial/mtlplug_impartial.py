"""Impartial loss weights: `--weighting impartial`.

The loss half of impartial multi-task learning (IMTL-L; Liu et al., 2021, section 3.2): a loss L of
task t counts as exp(s_t) L - s_t, with a learned s_t, which is least where exp(s_t) L is 1. So all
tasks' losses come to the same size. Its other half, IMTL-G, compares gradients of tasks, which no
weighting sees.
"""

import torch
from torch import nn

import mtlplug


class Impartial(nn.Module):
    """One learned scale for each task."""

    rate_factor = 100.0  # at an encoder's learning rate the scales would hardly move

    def __init__(self, tasks):
        super().__init__()
        self.scales_T = nn.Parameter(torch.zeros(len(tasks)))

    def forward(self, losses_B, tasks_B, reads_B):
        """The loss of each feature, scaled."""
        scales_B = self.scales_T.float()[tasks_B]
        return scales_B.exp() * losses_B - scales_B


@mtlplug.hookimpl
def mtlplug_weightings():
    """Called by mtlplug when it starts."""
    return {"impartial": lambda parameter: Impartial}
