"""How far a run is: what is kept of it, and what is read from its scores."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from mtlplug.training.stopping import EarlyStopping

Scores = dict[str, dict[str, float]]

EXPLODED = 3.0
"""Times its lowest validation loss that a task's loss is called exploded."""


@dataclass
class Progress:
    """How far a run is: what a checkpoint keeps beside the engine's own state.

    Attributes:
        epoch: epochs done, scored and noted.
        step: optimizer steps done of the epoch that follows.
        best_at: name of the checkpoint that holds the weights of the best epoch.
        stopping: state of the stopping rule.
        untrained: scores before the first step.
        first: scores of the first epoch.
        best: scores of the best epoch so far.
        lowest: lowest validation loss of each task so far.
        seconds: time spent in training, in it waiting for the loader, and in evaluation.
        tokens: tokens trained on.
        skipped: steps skipped for an overflow in fp16.
    """

    stopping: EarlyStopping
    epoch: int = 0
    step: int = 0
    best_at: str | None = None
    untrained: Scores = field(default_factory=dict)
    first: Scores = field(default_factory=dict)
    best: Scores = field(default_factory=dict)
    lowest: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(
        default_factory=lambda: {"training": 0.0, "loader": 0.0, "evaluation": 0.0}
    )
    tokens: int = 0
    skipped: int = 0

    def state(self) -> dict[str, Any]:
        """As JSON-like values of their own: a thread writes them while training goes on."""
        return asdict(self)

    @classmethod
    def of(cls, state: dict[str, Any]) -> Progress:
        """From `state()`."""
        return cls(**{**state, "stopping": EarlyStopping(**state["stopping"])})


def exploded(scores: Scores, progress: Progress) -> list[str]:
    """Tasks whose loss is several times what it was, and higher than before training."""
    return [
        task
        for task, score in scores.items()
        if score["loss"] > max(EXPLODED * progress.lowest[task], progress.untrained[task]["loss"])
    ]
