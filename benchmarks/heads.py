"""What the layer between encoder and optimizer costs, with 8, 10, 40, 50, 100 and 200 heads.

One task of each installed format is read (from the suites given; the demo has SL, QA and C), and
repeated under other names, each with a head of its own, until there are as many tasks as asked
for. A randomly initialised BERT of MiniLM's shape (6 layers of 384, 30,522 tokens) runs batches of
128 of the mix under our engine, ZeRO-1. Every number of heads trains on the same features.

    layer    cut by task, gathers, calls of heads, losses' sums: the forward pass without encoder,
             heads and the formats' losses
    heads    heads and losses of the formats
    backward the whole backward pass, update: clipping and AdamW
    gathers  the heads' rows taken one head after the other, and at once (as is done), alone

CPU seconds of this thread, medians, in turns.

Usage: OMP_NUM_THREADS=1 python benchmarks/heads.py --output FILE \
         $(ls examples/mtlplug-*/suite/suite.toml | sed 's/^/--suite /')
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, count, islice
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from transformers import BertConfig, BertModel

from mtlplug.batching.loader import Loader, Step
from mtlplug.batching.mixing import Pool
from mtlplug.batching.packing import Packer
from mtlplug.data.build import TRAIN, TaskData
from mtlplug.model.encoder import Encoder
from mtlplug.processor import processor
from mtlplug.training.deepspeed_config import resolve_deepspeed
from mtlplug.training.engine import Engine
from mtlplug.training.launch import start
from mtlplug.training.pretrain import build_data, new_model
from mtlplug.workspace import Workspace, open_workspace
from mtlplug.world import World

SHAPE = {
    "vocab_size": 30_522, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
    "intermediate_size": 1536, "max_position_embeddings": 512,
}  # fmt: skip


class Clocked:
    """An engine whose parts are timed."""

    def __init__(self, workspace: Workspace, data: Sequence[TaskData], world: World) -> None:
        torch.manual_seed(0)
        encoder = Encoder(BertModel(BertConfig(**SHAPE), add_pooling_layer=False))
        model = new_model(encoder, data, seed=0)
        resolved = resolve_deepspeed(workspace.config, world.size)
        self.engine = Engine(model, workspace.config, resolved, 1000, world)
        self.spent: dict[str, list[float]] = defaultdict(list)
        self._sums: dict[str, float] = defaultdict(float)
        self._time(model.encoder, "encoder")
        for head in model.heads:
            self._time(head, "heads")
        model._losses = self._timed(model._losses, "heads")  # type: ignore[method-assign]
        self._time(model, "forward")

    def step(self, step: Step) -> None:
        """One optimizer step."""
        self._sums.clear()
        before = time.thread_time()
        self.engine.accumulate_all(step)
        passed = time.thread_time()
        self.engine.update()
        done = time.thread_time()
        sums = self._sums
        self.spent["step"].append(done - before)
        self.spent["encoder"].append(sums["encoder"])
        self.spent["heads"].append(sums["heads"])
        self.spent["layer"].append(sums["forward"] - sums["encoder"] - sums["heads"])
        self.spent["backward"].append(passed - before - sums["forward"])
        self.spent["update"].append(done - passed)

    def _time(self, module: Any, part: str) -> None:
        module.forward = self._timed(module.forward, part)

    def _timed(self, call: Callable[..., Any], part: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                self._sums[part] += time.thread_time() - started

        return timed


def one_of_each(suites: Sequence[str], console: Console) -> tuple[Workspace, list[TaskData]]:
    """A task of every format that is installed and that one of the suites has a task of."""
    found: dict[str, TaskData] = {}
    for name in ("demo", *suites):
        workspace = open_workspace({"suite": name, "precision": "fp32"})
        tasks = {task.format: task for task in workspace.suite.tasks.values() if task.sources}
        new = [task for code, task in tasks.items() if code not in found]
        for data in build_data(workspace, new, console):
            found[data.task.format] = data
    missing = set(workspace.plugins.formats) - set(found)
    if missing:
        console.print(f"no suite has a task of {', '.join(sorted(missing))}")
    return workspace, list(found.values())


def repeated(each: Sequence[TaskData], number: int) -> list[TaskData]:
    """So many tasks, the formats in turn, each with a name and later a head of its own."""
    kinds = (each[place % len(each)] for place in range(number))
    return [
        replace(data, task=replace(data.task, name=f"{data.task.name}-{place}"))
        for place, data in enumerate(kinds)
    ]


def steps_of(data: Sequence[TaskData], world: World, max_tokens: int) -> Any:
    """Packed batches in which all formats have as many features, whatever the number of tasks."""
    stores = [each.stores[TRAIN] for each in data]
    packer = Packer(stores, [each.format for each in data], [1.0] * len(data), max_tokens)
    size = min(map(len, stores))
    pool = Pool([size] * len(data), 128, seed=0)
    epochs = chain.from_iterable(map(pool.epoch, count()))
    return Loader(packer, world, in_step=False).steps(epochs)


def gathers(number: int, tokens: int = 3400, rows: int = 1200, turns: int = 6) -> dict[str, float]:
    """Milliseconds, forward and backward, of giving heads their rows: one by one, and at once."""
    hidden_TD = torch.randn(tokens, SHAPE["hidden_size"], requires_grad=True)
    size = max(1, rows // number)
    reads_R = torch.randint(tokens, [size * number])
    ways: dict[str, Callable[[], Any]] = {
        "each_alone": lambda: [hidden_TD[reads] for reads in reads_R.split(size)],
        "at_once": lambda: torch.unsafe_split_with_sizes(hidden_TD[reads_R], [size] * number),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(turns):
        for name, way in ways.items():
            hidden_TD.grad = None
            started = time.thread_time()
            torch.stack([part.square().sum() for part in way()]).sum().backward()
            best[name] = min(best[name], time.thread_time() - started)
    return {name: round(1e3 * spent, 1) for name, spent in best.items()}


@click.command()
@click.option("--suite", "suites", multiple=True, help="With a task of another format; repeat.")
@click.option("--tasks", "numbers", multiple=True, type=int, default=(8, 10, 40, 50, 100, 200))
@click.option("--steps", default=5, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def main(
    suites: tuple[str, ...], numbers: tuple[int, ...], steps: int, output: Path | None
) -> None:
    """Print and write CPU milliseconds of a step's parts for each number of tasks."""
    torch.set_num_threads(1)
    console, world = Console(), start()
    workspace, each = one_of_each(suites, console)
    clocked, batches = {}, {}
    for number in numbers:
        data = repeated(each, number)
        clocked[number] = Clocked(workspace, data, world)
        batches[number] = steps_of(data, world, workspace.config.max_tokens)
    present: dict[int, list[int]] = defaultdict(list)
    tokens: dict[int, list[int]] = defaultdict(list)
    for _ in range(steps + 1):
        for number in numbers:
            (step,) = islice(batches[number], 1)
            present[number].append(sum(len(part.rows.tasks) for part in step.micro_batches))
            tokens[number].append(step.tokens)
            clocked[number].step(step)
    rows = []
    for number in numbers:
        spent = {part: median(values[1:]) for part, values in clocked[number].spent.items()}
        share = [
            layer / whole
            for layer, whole in zip(
                clocked[number].spent["layer"][1:], clocked[number].spent["step"][1:], strict=True
            )
        ]
        rows.append(
            {
                "tasks": number,
                "present": round(float(np.mean(present[number])), 1),
                "tokens": round(median(tokens[number])),
                "layer_percent": round(100 * median(share), 2),
                "gathers": gathers(number),
                "milliseconds": {part: round(1e3 * value, 1) for part, value in spent.items()},
            }
        )
        console.print(rows[-1])
    result = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/heads.py --output FILE --suite EACH",
        "formats": sorted(data.format.code for data in each),
        "processor": processor().name,
        "steps": steps,
        "rows": rows,
    }
    if output:
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
