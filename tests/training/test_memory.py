"""Peak memory foretold: its parts, what is refused, and with which advice."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mtlplug.config import RunConfig
from mtlplug.errors import MtlplugError
from mtlplug.training import memory as module
from mtlplug.training.memory import GIB, LIBRARIES, PASSING, Memory, check_memory, foretell
from mtlplug.world import World

MILLION = 1_000_000


class Alone(World):
    """One of several ranks without the others."""

    def broadcast(self, value: Any) -> Any:
        """Rank 0 tells itself."""
        return value


def world(size: int = 1) -> World:
    """Rank 0 of so many on a CPU."""
    return Alone(0, size, torch.device("cpu"))


def foretold(stage: int, ranks: int = 1, **config: Any) -> Memory:
    """For a million parameters and a million bytes of activations."""
    resolved = {"zero_optimization": {"stage": stage}, **config}
    return foretell(MILLION, MILLION, 100, resolved, world(ranks))


@pytest.mark.parametrize(
    ("stage", "ranks", "weights", "optimizer", "gradients"),
    [(0, 1, 4, 8, 4), (0, 4, 4, 8, 4), (1, 1, 8, 8, 8), (1, 4, 5, 2, 5), (2, 4, 5, 2, 2),
     (3, 4, 2, 2, 2)],
)  # fmt: skip
def test_bytes_of_a_parameter(
    stage: int, ranks: int, weights: float, optimizer: float, gradients: float
) -> None:
    """In float32, by stage and ranks, as the module's table has them."""
    found = foretold(stage, ranks)
    assert (found.weights, found.optimizer) == (weights * MILLION, optimizer * MILLION)
    assert found.gradients == gradients * MILLION
    assert found.activations == PASSING * MILLION


def test_half_precision() -> None:
    """Weights, gradients and activations take half; a float32 copy comes beside."""
    half, full = foretold(1, bf16={"enabled": True}), foretold(1)
    assert (half.weights, half.gradients) == (6 * MILLION, 6 * MILLION)
    assert half.activations == full.activations / 2


def test_the_peak_is_in_training_or_in_saving() -> None:
    """Where little is kept, reading the result back takes more."""
    small = foretell(MILLION, 0, 1, {"zero_optimization": {"stage": 0}}, world())
    assert small.peak == LIBRARIES["cpu"] + (4 + 8 + 8) * MILLION
    large = foretell(MILLION, 100 * MILLION, 1, {"zero_optimization": {"stage": 0}}, world())
    assert large.peak == LIBRARIES["cpu"] + (4 + 8 + 4 + 100 * PASSING) * MILLION


def test_what_fits_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is everything where the system tells nothing."""
    for free in (GIB, None):
        monkeypatch.setattr(module, "free_memory", lambda free=free: free)
        check_memory(foretold(1), RunConfig(), world())


@pytest.mark.parametrize(
    ("ranks", "stage", "options", "advice"),
    [
        (1, 1, {}, "lower --max-tokens (now 8192), use --gradient-checkpointing, or begin"),
        (1, 1, {"gradient_checkpointing": True}, "lower --max-tokens (now 8192), or begin"),
        (2, 1, {}, "take a higher ZeRO stage (now 1) with --deepspeed-config, or begin"),
    ],
)
def test_what_cannot_fit(
    monkeypatch: pytest.MonkeyPatch, ranks: int, stage: int, options: dict[str, Any], advice: str
) -> None:
    """The sentence has what is needed, what there is, and what helps."""
    monkeypatch.setattr(module, "free_memory", lambda: GIB)
    resolved = {"zero_optimization": {"stage": stage}}
    needed = foretell(MILLION, 4 * GIB, 100, resolved, world(ranks))
    with pytest.raises(MtlplugError) as error:
        check_memory(needed, RunConfig(**options), world(ranks))
    total = ranks * (needed.peak - needed.libraries) / GIB
    assert f"would take {total:.1f} GiB" in str(error.value)
    assert "has 1.0 GiB free" in str(error.value)
    assert advice in str(error.value)


def test_a_model_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where activations matter little, another model is the advice."""
    monkeypatch.setattr(module, "free_memory", lambda: 1)
    with pytest.raises(MtlplugError, match="take a smaller --model"):
        check_memory(foretold(1), RunConfig(), world())
