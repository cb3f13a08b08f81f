"""Stops a run whose numbers went wrong before anything of it is saved, and names the examples."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mtlplug.batching.loader import Step
from mtlplug.errors import MtlplugError
from mtlplug.training.engine import Engine

OVERFLOWS = 50
"""Steps in a row whose gradients may overflow in fp16 while its loss scale is looked for."""

NAMED = 5
"""Examples of a task that are named at most."""


class OnItsWay:
    """A number that a device has yet to compute; reading it waits for this number alone.

    `float(tensor)` would wait for all that has been launched since, too.
    """

    def __init__(self, number: Tensor) -> None:
        self._host = torch.empty((), dtype=number.dtype, pin_memory=True)
        self._host.copy_(number, non_blocking=True)
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._copied.record(torch.cuda.current_stream(number.device))

    def __float__(self) -> float:
        self._copied.synchronize()
        return float(self._host)


class Guard:
    """Looks at the gradient of every step, the same on all ranks.

    Where the host would have to wait for a device it looks one step later; a step with such a
    gradient leaves the weights as they are.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._last: tuple[int, Step, Any] | None = None
        self._overflows = 0

    def before(self, number: int, step: Step, loss: Tensor) -> None:
        """Without ZeRO, look before the weights are updated: nothing keeps that from them.

        Args:
            number: of optimizer steps done, this one counted.
            step: its micro-batches on this rank.
            loss: this rank's share.

        Raises:
            MtlplugError: the loss or a gradient is no number.
        """
        if self._engine.stage == 0:
            gradients = [p.grad for p in self._engine.model.parameters() if p.grad is not None]
            # Of this rank alone, and not their true norm together: what is no number stays none.
            number_of_all = loss + torch.nn.utils.get_total_norm(gradients)
            self._look(number, step, self._engine.world.sum(number_of_all))

    def after(self, number: int, step: Step) -> None:
        """Look at a step that was taken, or at the one before.

        Raises:
            MtlplugError: its gradient is no number.
        """
        norm = self._engine.engine.get_global_grad_norm()
        if norm is None:  # without ZeRO
            return
        later = isinstance(norm, Tensor) and norm.is_cuda
        self.settle()  # an overflow is told at once: the step before it comes first
        self._last = number, step, OnItsWay(norm) if later else norm
        if not later:
            self.settle()

    def settle(self) -> None:
        """Look at the last step before something is saved.

        Raises:
            MtlplugError: its gradient is no number.
        """
        before, self._last = self._last, None
        if before is not None:
            self._look(*before)

    def _look(self, number: int, step: Step, norm: Any) -> None:
        if math.isfinite(float(norm)):
            self._overflows = 0
        elif self._engine.precision != "fp16":
            raise MtlplugError(self._blame(number, step))
        else:
            self._overflows += 1
            if self._overflows == OVERFLOWS:
                raise MtlplugError(
                    f"gradients overflowed in fp16 in {OVERFLOWS} steps in a row, up to step "
                    f"{number}; use --precision bf16, or lower --learning-rate"
                )

    def _blame(self, number: int, step: Step) -> str:
        """A sentence that names the tasks and examples of a step whose losses are no numbers."""
        world = self._engine.world
        found = world.gather(self._losses(step))
        merged: dict[str, list[tuple[int, float]]] = {}
        for of_rank in found:
            for task, losses in of_rank.items():
                merged.setdefault(task, []).extend(losses)
        return str(world.broadcast(_sentence(number, merged) if world.main else None))

    def _losses(self, step: Step) -> dict[str, list[tuple[int, float]]]:
        """Of this rank's examples: number and loss, without dropout, by task."""
        tasks = self._engine.model.tasks
        losses: dict[str, list[tuple[int, float]]] = {}
        with torch.no_grad():
            for micro_batch in step.micro_batches:
                on_device = micro_batch.to(self._engine.world.device)
                output = self._engine.evaluate(on_device)
                for task, losses_B in output.losses.items():
                    numbers = micro_batch.tasks[task].features.tolist()
                    pairs = zip(numbers, losses_B.tolist(), strict=True)
                    losses.setdefault(tasks[task].name, []).extend(pairs)
        return losses


def _sentence(number: int, losses: dict[str, list[tuple[int, float]]]) -> str:
    bad = {
        task: sorted(example for example, loss in pairs if not math.isfinite(loss))
        for task, pairs in losses.items()
    }
    named = [
        f"task '{task}', training examples {', '.join(map(str, examples[:NAMED]))}"
        f"{f' and {len(examples) - NAMED} more' if len(examples) > NAMED else ''}"
        for task, examples in bad.items()
        if examples
    ]
    if named:
        return (
            f"the loss is not a number in step {number}: {'; '.join(named)}; "
            "look at them, or lower --learning-rate"
        )
    largest, task = max((max(loss for _, loss in pairs), task) for task, pairs in losses.items())
    return (
        f"the gradient is not a number in step {number}, though each loss is one (the largest is "
        f"{largest:.4g}, of task '{task}'); lower --learning-rate"
    )
