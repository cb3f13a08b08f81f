"""What the machine does at best, and how much memory a step takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

REPEATS = 5
"""Timed repetitions of each matrix product; the fastest counts."""

ROWS = {"cpu": 4096, "cuda": 16384}
"""Rows of the products: tokens of a micro-batch."""


def gemm_ceiling(width: int, dtype: torch.dtype, device: torch.device) -> dict[str, float]:
    """Operations per second of the products in an encoder's widest layer, nothing else.

    A layer from D to 4 D over T tokens: `forward` Y = X W', `inputs` dX = dY W, `weights`
    dW = dY' X. They take equally many operations, so `mean`, the ceiling of a training step, is
    the harmonic mean of the three.

    Args:
        width: D.
        dtype: of all factors.
        device: where to multiply.
    """
    rows = ROWS[device.type]
    x_TD = torch.randn(rows, width, device=device, dtype=dtype)
    y_TF = torch.randn(rows, 4 * width, device=device, dtype=dtype)
    weight_FD = torch.randn(4 * width, width, device=device, dtype=dtype)
    products: dict[str, Callable[[], torch.Tensor]] = {
        "forward": lambda: x_TD @ weight_FD.T,
        "inputs": lambda: y_TF @ weight_FD,
        "weights": lambda: y_TF.T @ x_TD,
    }
    operations = 2.0 * rows * width * 4 * width
    seconds = dict.fromkeys(products, float("inf"))
    for _ in range(REPEATS + 1):
        for name, product in products.items():  # in turn, so that a slow moment hits all
            seconds[name] = min(seconds[name], timed(product, device))
    speeds = {name: operations / value for name, value in seconds.items()}
    return _with_mean(speeds)


def highest(*ceilings: Mapping[str, float]) -> dict[str, float]:
    """The best of several measurements: other jobs can only make them lower."""
    names = [name for name in ceilings[0] if name != "mean"]
    return _with_mean({name: max(each[name] for each in ceilings) for name in names})


def _with_mean(speeds: dict[str, float]) -> dict[str, float]:
    return speeds | {"mean": len(speeds) / sum(1 / speed for speed in speeds.values())}


def timed(function: Callable[[], object], device: torch.device) -> float:
    """Seconds that a function takes, the device's work included."""
    synchronize(device)
    started = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - started


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class PeakMemory:
    """The most memory used since `reset`: of the GPU, or of this process on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def reset(self) -> None:
        """Start over from what is used now."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def read(self) -> int:
        """Bytes."""
        if self._device.type == "cuda":
            # Graphs hold their activations in a pool that counts as reserved, and as nothing else.
            return torch.cuda.max_memory_reserved(self._device)
        status = Path("/proc/self/status").read_text(encoding="ascii")
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
