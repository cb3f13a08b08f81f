"""The training loop: start reading here."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch

from mtlplug.batching.loader import Loader
from mtlplug.batching.mixing import Pool
from mtlplug.config import RunConfig
from mtlplug.errors import MtlplugError, StoppedError
from mtlplug.training.checkpoint import MISFITS, Checkpoints, Found, fits_in_memory, name_of
from mtlplug.training.display import Display
from mtlplug.training.engine import Engine
from mtlplug.training.evaluation import Evaluator, mean_loss
from mtlplug.training.folder import RunFolder
from mtlplug.training.guard import Guard
from mtlplug.training.launch import ranks_here
from mtlplug.training.meter import Meter
from mtlplug.training.observers import Observers
from mtlplug.training.progress import Progress, Scores, exploded
from mtlplug.training.ranks import BUSY, COMPUTING, LOADING, WAITING, Ranks
from mtlplug.training.signals import Signals
from mtlplug.world import Agreement, World

SAVE, STOP = 1, 2
"""What a rank may wish for after a step."""


@dataclass
class Training:
    """One run: what it trains with and how far it is.

    Attributes:
        only_scores: keep no weights of the best epoch: for the many short runs of a study.
        saved: when the last checkpoint was written, or training began.
    """

    config: RunConfig
    world: World
    engine: Engine
    pool: Pool
    loader: Loader
    evaluate: Evaluator
    folder: RunFolder
    observers: Observers
    checkpoints: Checkpoints
    display: Display
    progress: Progress
    only_scores: bool = False
    saved: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.signals = Signals()
        self.ranks = Ranks(self.folder.ranks, self.world, self.config.hang_seconds)
        self.meter = Meter(self.world)
        self.guard = Guard(self.engine)
        self._agree = Agreement(self.world)

    @property
    def done(self) -> int:
        """Optimizer steps done."""
        return self.progress.epoch * self.pool.steps_per_epoch + self.progress.step

    def resume(self) -> None:
        """Go on from the newest checkpoint that is whole, if there is one."""
        if self.world.main:
            self.checkpoints.clear_leftovers()
        found = self.checkpoints.newest()
        if found:
            try:
                self._restore(found)
            except (*MISFITS, RuntimeError) as error:
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                raise MtlplugError(
                    f"checkpoint {found.place} does not fit this run ({reason:.200}); "
                    "start over with --overwrite"
                ) from error
            self.display.resume(self.progress.epoch, self.done, found.refused)
        if self.world.main:
            self.observers.rewind(found.progress["log"] if found else 0)

    def _restore(self, found: Found) -> None:
        self.engine.restore(found)
        if found.world_size != self.world.size:
            torch.manual_seed(self.world.own_seed(self.config.seed, found.progress["done"]))
        self.meter.restore([facts["meter"] for facts in found.facts()])
        self.progress = Progress.of(found.progress["progress"])
        self.progress.stopping.patience = self.config.patience

    def run(self) -> None:
        """Train until the stopping rule or the last epoch.

        Raises:
            StoppedError: somebody asked for it; what was done is saved.
            MtlplugError: the loss is no number, or a checkpoint cannot be written.
        """
        with self.signals, self.ranks:
            try:
                self._run()
            except RuntimeError:
                self.ranks.explain()
                raise
        if not self.progress.best:
            raise MtlplugError(
                f"the validation loss was never a number in {self.progress.epoch} epochs; "
                f"lower --learning-rate (now {self.config.learning_rate}), or use bf16"
            )

    def _run(self) -> None:
        if not self.progress.untrained:
            scores = self.progress.untrained = self._evaluate()
            self.progress.lowest = {task: score["loss"] for task, score in scores.items()}
            self._log(epoch=-1, event="untrained", step=0, scores=self.progress.untrained)
        while self.progress.epoch < self.config.max_epochs and not self.progress.stopping.stop:
            self._train_epoch()
            self._end_epoch(self._evaluate())
        self._agree.close()
        self.checkpoints.wait()

    def _train_epoch(self) -> None:
        progress, every = self.progress, self.config.log_every
        batches = self.pool.epoch(progress.epoch, progress.step)
        self.ranks.at(LOADING, self.done)
        for step in self.meter.awaited(self.loader.steps(batches)):
            self.ranks.at(COMPUTING)
            loss = self.engine.accumulate_all(step)
            self.ranks.at(WAITING)
            self.guard.before(self.done + 1, step, loss)
            self.engine.update()
            self.meter.add(step, loss)
            progress.step += 1
            self.guard.after(self.done, step)
            if progress.step % every == 0 or progress.step == self.pool.steps_per_epoch:
                self._report(self.done, self.meter)
            self._between()
            self.ranks.at(LOADING, self.done)
        self.ranks.at(BUSY)

    def _between(self) -> None:
        """Between two steps, or parts of an evaluation: save where it is time, stop where asked."""
        self.checkpoints.check()
        wish = STOP if self.signals.received else SAVE if self._time_to_save() else 0
        agreed = self._agree(wish)
        if agreed and self.progress.untrained:  # before the first step there is nothing to save
            self.ranks.at(BUSY)
            self._save()
        if agreed == STOP:
            self._stop()

    def _time_to_save(self) -> bool:
        """Says so once: what ranks agree on comes a step later."""
        now = time.monotonic()
        if not self.world.main or now - self.saved <= 60 * self.config.save_minutes:
            return False
        self.saved = now
        return True

    def _stop(self) -> None:
        self.checkpoints.wait()
        asked = f"stopped by {self.signals.received or 'a signal to another rank'}"
        told = f"{asked} after step {self.done}; the same command goes on from there"
        if self.world.main:
            self.display.tell(told)
        # A launcher ends the others when one has gone.
        self.world.barrier()
        raise StoppedError(told)

    def _save(self) -> None:
        """Write a checkpoint of this moment, unless there is one."""
        self.guard.settle()
        progress, self.saved = self.progress, time.monotonic()
        name = name_of(self.done, scored=progress.epoch > 0 and progress.step == 0)
        self.checkpoints.wait()  # one of this moment may be on its way
        if self.world.broadcast(self.checkpoints.has(name)):  # rank 0 writes the last byte
            return
        # All ranks of a host copy at once.
        ahead = fits_in_memory(self.engine.state_size * ranks_here(self.world.size))
        part = self.engine.capture(ahead=ahead)
        part.facts["meter"] = self.meter.state()
        shared = {
            "done": self.done,
            "log": self.folder.log_size(),
            "needs": [progress.best_at] if progress.best_at not in (None, name) else [],
            "progress": progress.state(),
            "engine": self.engine.shared(),
        }
        size = torch.tensor([part.size], device=self.world.device)
        self.checkpoints.save(name, part, shared, int(self.world.sum(size)))
        if not ahead:
            self.checkpoints.wait()

    def _report(self, step: int, meter: Meter) -> None:
        """Say and log the mean loss of the last steps."""
        reading = meter.read()
        loss = reading.loss
        self.progress.seconds["training"] += reading.seconds
        self.progress.tokens += reading.tokens
        self.progress.seconds["loader"] += reading.waited
        self.progress.skipped = self.engine.skipped_steps
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
        """Note the scores; write a checkpoint of the best epoch's weights."""
        progress, epoch = self.progress, self.progress.epoch
        loss = mean_loss(scores)
        if epoch == 0:
            progress.first = scores
        better = progress.stopping.update(epoch, loss)
        line = {"mean_loss": loss, "best": better, "scores": scores}
        if self._log(epoch=epoch, event="validation", step=self.done, **line):
            self.observers.epoch_end(epoch + 1, scores)
        for task in exploded(scores, progress):
            self.display.tell(
                f"the validation loss of task '{task}' is {scores[task]['loss']:.4g} after epoch "
                f"{epoch + 1} and was {progress.lowest[task]:.4g}; lower --learning-rate, or "
                "the task's weight"
            )
        for task, score in scores.items():
            # In this order: with a loss that is no number the lowest stays what it was.
            progress.lowest[task] = min(progress.lowest[task], score["loss"])
        if self.world.main:
            note = f"mean loss {loss:.4f}{' (best)' if better else ''}"
            self.display.epoch(epoch, scores, note)
        progress.epoch, progress.step = epoch + 1, 0
        self.meter.clear()  # before it is saved: evaluation is no training
        if better:
            progress.best = scores
            if not self.only_scores:
                progress.best_at = name_of(self.done, scored=True)
                self._save()

    def _evaluate(self) -> Scores:
        started = time.perf_counter()
        if self.world.main:
            self.display.evaluating()
        scores = self.evaluate(self.engine.evaluate, self._between)
        self.progress.seconds["evaluation"] += time.perf_counter() - started
        return scores

    def _log(self, **line: Any) -> bool:
        """Write a line, and tell plugins of it; whether they hear of it for the first time."""
        return self.world.main and self.observers.log(self.folder.log(line))
