"""Mean loss and speed of the steps since the last look."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from mtlplug.batching.loader import Step
from mtlplug.world import World


@dataclass(frozen=True)
class Reading:
    """What a meter shows.

    Attributes:
        loss: mean over the steps since the last reading.
        tokens: of these steps, over all ranks.
        seconds: that they took.
        waited: of these, seconds in which this rank waited for the loader.
    """

    loss: float
    tokens: int
    seconds: float
    waited: float

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds

    @property
    def loader_wait(self) -> float:
        """Share of the time in which the loop waited for the loader."""
        return self.waited / self.seconds


class Meter:
    """Mean loss and speed since the last reading, without waiting for the device in between."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.clear()

    def clear(self) -> None:
        """Start over."""
        self._loss = torch.zeros((), device=self._world.device)
        self._steps = self._tokens = 0
        self._waited = 0.0
        self._since = time.perf_counter()

    def awaited(self, steps: Iterator[Step]) -> Iterator[Step]:
        """These steps, with note taken of how long each is waited for."""
        while True:
            since = time.perf_counter()
            step = next(steps, None)
            self._waited += time.perf_counter() - since
            if step is None:
                return
            yield step

    def add(self, step: Step, loss: torch.Tensor) -> None:
        """Take note of a step and of this rank's share in its loss."""
        self._loss = self._loss + loss
        self._steps += 1
        self._tokens += step.tokens

    def read(self) -> Reading:
        """What has gathered; then start over."""
        loss = float(self._world.sum(self._loss)) / max(self._steps, 1)
        seconds = time.perf_counter() - self._since
        reading = Reading(loss, self._tokens, seconds, self._waited)
        self.clear()
        return reading

    def state(self) -> dict[str, float]:
        """What has gathered on this rank, for a checkpoint."""
        return {
            "loss": float(self._loss),
            "steps": self._steps,
            "tokens": self._tokens,
            "waited": self._waited,
            "seconds": time.perf_counter() - self._since,
        }

    def restore(self, states: Sequence[Mapping[str, float]]) -> None:
        """Go on with what had gathered on all ranks, whatever their number was."""
        same = len(states) == self._world.size
        mine = states[self._world.rank if same else 0]
        losses = [state["loss"] for state in states]
        loss = mine["loss"] if same else sum(losses) if self._world.main else 0.0
        self._loss = torch.tensor(loss, device=self._world.device)
        self._steps, self._tokens = int(mine["steps"]), int(mine["tokens"])
        self._waited = mine["waited"]
        self._since = time.perf_counter() - mine["seconds"]
