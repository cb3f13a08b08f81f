"""When to stop, and which epoch was the best."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class EarlyStopping:
    """Stop after `patience` epochs in which the mean validation loss did not improve.

    Padmakumar et al. (2022), appendix B.2: the validation loss of each task is computed
    separately at the end of each epoch, and their mean decides.

    Attributes:
        patience: epochs without improvement before stopping; 0 never stops.
        best_loss: the lowest mean loss so far.
        best_epoch: its epoch; -1 before the first.
        waited: epochs since then.
    """

    patience: int
    best_loss: float = math.inf
    best_epoch: int = -1
    waited: int = 0

    def update(self, epoch: int, loss: float) -> bool:
        """Take note of an epoch's mean loss; True where it is the best so far."""
        if loss < self.best_loss:
            self.best_loss, self.best_epoch, self.waited = loss, epoch, 0
            return True
        self.waited += 1
        return False

    @property
    def stop(self) -> bool:
        """Whether training should end."""
        return 0 < self.patience <= self.waited
