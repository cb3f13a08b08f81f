"""Speed of the three matrix products of a linear layer, and of layouts that might mend the third.

For a layer Y = X W^T with T tokens, D inputs and E outputs:

    forward  X W^T          (T, D) x (D, E)
    dX       dY W           (T, E) x (E, D)
    dW       dY^T X         (E, T) x (T, D): the sum runs over the tokens

dW in other forms, the copies they need included: the product of the other side, transposed
(X^T dY); both sides copied so that the sum runs over neighbours in memory; one side copied; in
slices of the tokens, added up in float32. All against dW as autograd computes it.

CPU seconds of one thread, best of several turns, in turns. On a processor without units for bf16
(AMX, AVX512-BF16) its bf16 figures are those of an emulation.

Usage: OMP_NUM_THREADS=1 python benchmarks/weight_gradients.py --output FILE
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from mtlplug.processor import processor

LAYERS = {"attention": (384, 384), "up": (384, 1536), "down": (1536, 384)}
"""Inputs and outputs of MiniLM's linear layers."""

SLICE = 512
"""Tokens whose sum is taken in one product, where they are sliced."""

Way = Callable[[Tensor, Tensor, Tensor], Tensor]


def sliced(x_TD: Tensor, dy_TE: Tensor, _: Tensor) -> Tensor:
    """Parts of the sum, each in the inputs' type, added up in float32."""
    total_ED = torch.zeros(dy_TE.shape[1], x_TD.shape[1])
    for x, dy in zip(x_TD.split(SLICE), dy_TE.split(SLICE), strict=True):
        total_ED += dy.t() @ x
    return total_ED


WAYS: dict[str, Way] = {
    "forward": lambda x, dy, w: x @ w.t(),
    "dX": lambda x, dy, w: dy @ w,
    "dW": lambda x, dy, w: dy.t() @ x,
    "dW, other side first": lambda x, dy, w: (x.t() @ dy).t(),
    "dW, dY copied": lambda x, dy, w: dy.t().contiguous() @ x,
    "dW, X copied": lambda x, dy, w: dy.t() @ x.t().contiguous().t(),
    "dW, both copied": lambda x, dy, w: dy.t().contiguous() @ x.t().contiguous().t(),
    "dW, sliced": sliced,
    "dW, in float32": lambda x, dy, w: dy.float().t() @ x.float(),
}


def rates(tokens: int, inputs: int, outputs: int, dtype: torch.dtype, turns: int) -> dict[str, Any]:
    """Billions of operations a second of each way."""
    x_TD, dy_TE = torch.randn(tokens, inputs).to(dtype), torch.randn(tokens, outputs).to(dtype)
    w_ED = torch.randn(outputs, inputs).to(dtype)
    best = dict.fromkeys(WAYS, float("inf"))
    for turn in range(turns + 1):
        for name, way in WAYS.items():
            started = time.thread_time()
            way(x_TD, dy_TE, w_ED)
            if turn:  # the first one loads and compiles kernels
                best[name] = min(best[name], time.thread_time() - started)
    return {
        name: round(2e-9 * tokens * inputs * outputs / spent, 1) for name, spent in best.items()
    }


@click.command()
@click.option("--tokens", "sizes", multiple=True, type=int, default=(1024, 4096, 8192))
@click.option("--turns", default=10, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def main(sizes: tuple[int, ...], turns: int, output: Path | None) -> None:
    """Print and write the rates."""
    torch.set_num_threads(1)
    rows = []
    print(" | ".join(["layer, tokens, type", *WAYS]))
    for name, (inputs, outputs) in LAYERS.items():
        for tokens in sizes:
            for dtype in (torch.float32, torch.bfloat16):
                found = rates(tokens, inputs, outputs, dtype, turns)
                kind = str(dtype).removeprefix("torch.")
                rows.append({"layer": name, "tokens": tokens, "type": kind, "gflops": found})
                print(" | ".join([f"{name}, {tokens}, {kind}", *map(str, found.values())]))
    result = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/weight_gradients.py --output FILE",
        "processor": processor().name,
        "flags": sorted(flag for flag in processor().flags if flag.startswith(("avx", "amx"))),
        "torch": torch.__version__,
        "turns": turns,
        "rows": rows,
    }
    if output:
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
