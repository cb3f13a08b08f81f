"""The training loop: start reading here."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from mtlplug.batching.loader import Loader, Step
from mtlplug.batching.mixing import Pool
from mtlplug.config import RunConfig
from mtlplug.errors import MtlplugError
from mtlplug.training.engine import Engine
from mtlplug.training.evaluation import Evaluator, mean_loss
from mtlplug.training.folder import RunFolder
from mtlplug.training.progress import Display
from mtlplug.training.stopping import EarlyStopping
from mtlplug.world import World

Scores = dict[str, dict[str, float]]

SECONDS_AT_STAKE = 300.0
"""What a run that only gives scores may lose when it is killed."""


@dataclass
class Progress:
    """How far a run is: what a checkpoint keeps beside the engine's own state.

    Attributes:
        epoch: epochs done.
        stopping: state of the stopping rule.
        untrained: scores before the first step.
        first: scores of the first epoch.
        best: scores of the best epoch so far.
        seconds: time spent in training, in it waiting for the loader, and in evaluation.
        tokens: tokens trained on.
        skipped: steps skipped for an overflow in fp16.
    """

    stopping: EarlyStopping
    epoch: int = 0
    untrained: Scores = field(default_factory=dict)
    first: Scores = field(default_factory=dict)
    best: Scores = field(default_factory=dict)
    seconds: dict[str, float] = field(
        default_factory=lambda: {"training": 0.0, "loader": 0.0, "evaluation": 0.0}
    )
    tokens: int = 0
    skipped: int = 0

    def state(self) -> dict[str, Any]:
        """As JSON-like values."""
        return {**vars(self), "stopping": self.stopping.state()}

    @classmethod
    def of(cls, state: dict[str, Any]) -> Progress:
        """From `state()`."""
        return cls(**{**state, "stopping": EarlyStopping(**state["stopping"])})


@dataclass
class Training:
    """One run: what it trains with and how far it is.

    Attributes:
        only_scores: keep no weights of the best epoch, and checkpoints only so often that few
            minutes can be lost: for the many short runs of a study.
        saved: when the last checkpoint was written.
    """

    config: RunConfig
    world: World
    engine: Engine
    pool: Pool
    loader: Loader
    evaluate: Evaluator
    folder: RunFolder
    display: Display
    progress: Progress
    only_scores: bool = False
    saved: float = field(default_factory=time.monotonic)

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        state = self.engine.load_checkpoint(self.folder)
        if state:
            self.progress = Progress.of(state)
            self.display.resume(self.progress.epoch, self.pool.steps_per_epoch)
        if self.world.main:
            self.folder.rewind_log(self.progress.epoch)

    def run(self) -> None:
        """Train until the stopping rule or the last epoch; the best weights are in `best/`."""
        if not self.progress.untrained:
            self.progress.untrained = self._evaluate()
            self._log(epoch=-1, event="untrained", scores=self.progress.untrained)
        while self.progress.epoch < self.config.max_epochs and not self.progress.stopping.stop:
            self._train_epoch()
            self._end_epoch(self._evaluate())
        if not self.progress.best:
            raise MtlplugError(
                f"the validation loss was never a number in {self.progress.epoch} epochs; "
                f"lower --learning-rate (now {self.config.learning_rate}), or use bf16"
            )

    def _train_epoch(self) -> None:
        epoch = self.progress.epoch
        meter = Meter(self.world)
        started = time.perf_counter()
        steps = meter.awaited(self.loader.steps(self.pool.epoch(epoch)))
        for number, step in enumerate(steps, start=1):
            meter.add(step, self.engine.step(step))
            if number % self.config.log_every == 0 or number == self.pool.steps_per_epoch:
                self._report(epoch * self.pool.steps_per_epoch + number, meter)
        self.progress.seconds["training"] += time.perf_counter() - started

    def _report(self, step: int, meter: Meter) -> None:
        """Say and log the mean loss of the last steps."""
        reading = meter.read()
        loss = reading.loss
        self.progress.tokens += reading.tokens
        self.progress.seconds["loader"] += reading.waited
        self.progress.skipped = self.engine.skipped_steps
        if not math.isfinite(loss) and self.engine.precision != "fp16":
            raise MtlplugError(
                f"the loss is {loss} at step {step}; lower --learning-rate "
                f"(now {self.config.learning_rate}) or look at the data"
            )
        self._log(
            epoch=self.progress.epoch,
            event="step",
            step=step,
            loss=loss,
            learning_rate=self.engine.learning_rate,
            gradient_norm=self.engine.gradient_norm,
            tokens_per_second=round(reading.speed),
            loader_wait=round(reading.loader_wait, 4),
        )
        if self.world.main:
            self.display.step(self.progress.epoch, step, loss, reading.speed)

    def _end_epoch(self, scores: Scores) -> None:
        """Note the scores, keep the best weights, write a checkpoint."""
        progress, epoch = self.progress, self.progress.epoch
        loss = mean_loss(scores)
        if epoch == 0:
            progress.first = scores
        if better := progress.stopping.update(epoch, loss):
            progress.best = scores
            if not self.only_scores:
                self.engine.save_weights(self.folder, self.folder.best)
        self._log(epoch=epoch, event="validation", mean_loss=loss, best=better, scores=scores)
        if self.world.main:
            note = f"mean loss {loss:.4f}{' (best)' if better else ''}"
            self.display.epoch(epoch, scores, note)
        progress.epoch += 1
        if self._save_now():
            self.engine.save_checkpoint(self.folder, progress.epoch, progress.state())
            self.saved = time.monotonic()

    def _save_now(self) -> bool:
        """Whether a checkpoint is due: the same answer on all ranks."""
        passed = time.monotonic() - self.saved
        return bool(self.world.broadcast(not self.only_scores or passed > SECONDS_AT_STAKE))

    def _evaluate(self) -> Scores:
        started = time.perf_counter()
        if self.world.main:
            self.display.evaluating()
        scores = self.evaluate(self.engine.evaluate)
        self.progress.seconds["evaluation"] += time.perf_counter() - started
        return scores

    def _log(self, **line: Any) -> None:
        if self.world.main:
            self.folder.log(line)


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
        self._clear()

    def _clear(self) -> None:
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
        self._clear()
        return reading
