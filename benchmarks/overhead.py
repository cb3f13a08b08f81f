"""What DeepSpeed and our engine add to a step over a bare PyTorch loop.

The same packed batches go through several loops, interleaved step by step in one process on one
rank: a bare loop (model, torch's fused AdamW, `clip_grad_norm_`), our engine under ZeRO-1, and
under ZeRO-0 where the precision allows it. Each trains its own copy of the same model with the
same dropout; the losses are compared. Then each runs alone in a process of its own for its peak
memory and for the share of the time in which it waits for the loader.

In bf16 the bare loop computes what DeepSpeed computes: bf16 weights and gradients, AdamW on
float32 master weights, copied back after each step. Autocast would cast all weights in each pass.

Usage: OMP_NUM_THREADS=1 python benchmarks/overhead.py --model DIR --data DIR --output FILE
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click
import torch
from rich.console import Console
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LambdaLR

from mtlplug.batching.loader import Loader, Step
from mtlplug.batching.mixing import Pool
from mtlplug.batching.packing import Packer
from mtlplug.bench.ceiling import PeakMemory
from mtlplug.bench.machine import describe_machine
from mtlplug.config import RunConfig
from mtlplug.data.build import TRAIN, TaskData
from mtlplug.model.encoder import Encoder
from mtlplug.model.multitask import MultiTaskModel
from mtlplug.training.deepspeed_config import resolve_deepspeed
from mtlplug.training.engine import Engine
from mtlplug.training.launch import start
from mtlplug.training.pretrain import build_data, new_model
from mtlplug.workspace import open_workspace
from mtlplug.world import World

SUITE = Path(__file__).resolve().parent.parent / "examples" / "suites" / "real_small.toml"
LOOPS = {"fp32": ("bare", "zero0", "zero1"), "bf16": ("bare", "zero1")}


@dataclass(frozen=True)
class Work:
    """What all loops train on."""

    config: RunConfig
    data: list[TaskData]
    world: World

    @property
    def pool(self) -> Pool:
        """The mix of examples."""
        sizes = [len(each.stores[TRAIN]) for each in self.data]
        return Pool(sizes, self.config.batch_size, self.config.seed)

    @property
    def total_steps(self) -> int:
        """Steps over which the learning rate decays."""
        return self.pool.steps_per_epoch * self.config.max_epochs

    def steps(self) -> Iterator[Step]:
        """Packed batches without end, packed ahead as in a run."""
        packer = Packer(
            [each.stores[TRAIN] for each in self.data],
            [each.format for each in self.data],
            [each.task.weight for each in self.data],
            self.config.max_tokens,
        )
        pool = self.pool
        epochs = chain.from_iterable(map(pool.epoch, count()))
        return Loader(packer, self.world, in_step=False).steps(epochs)

    def model(self) -> MultiTaskModel:
        """The same new model each time."""
        return new_model(Encoder.from_pretrained(self.config.model), self.data, self.config.seed)


class Bare:
    """The plain loop: what one writes without DeepSpeed."""

    def __init__(self, work: Work) -> None:
        self.model = work.model().to(work.world.device).train()
        self.weights: list[torch.Tensor] = list(self.model.parameters())
        self.masters = self.weights
        if work.config.precision == "bf16":
            self.masters = [weight.detach().clone() for weight in self.weights]
            self.model.to(torch.bfloat16)
        self.model.run_absent_heads = False
        self.device, self.clip = work.world.device, work.config.gradient_clipping
        rate, steps = work.config.learning_rate, work.total_steps
        self.optimizer = torch.optim.AdamW(self.masters, rate, weight_decay=0.0, fused=True)
        self.schedule = LambdaLR(self.optimizer, lambda step: 1 - step / steps)
        self.updating = 0.0

    def step(self, step: Step) -> torch.Tensor:
        """Forward and backward passes, clipping, AdamW."""
        total = torch.zeros((), device=self.device)
        for micro_batch in step.micro_batches:
            loss = self.model(micro_batch.to(self.device)).loss
            loss.backward()
            total += loss.detach()
        started = clock()
        if self.masters is not self.weights:
            for master, weight in zip(self.masters, self.weights, strict=True):
                master.grad = None if weight.grad is None else weight.grad.float()
                weight.grad = None
        clip_grad_norm_(self.masters, self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        if self.masters is not self.weights:
            with torch.no_grad():
                torch._foreach_copy_(self.weights, self.masters)
        self.updating = clock() - started
        return total


class Ours:
    """Our engine under a ZeRO stage."""

    def __init__(self, work: Work, stage: int) -> None:
        resolved = resolve_deepspeed(work.config, work.world.size)
        resolved["zero_optimization"]["stage"] = stage
        self.engine = Engine(work.model(), work.config, resolved, work.total_steps, work.world)
        self.device, self.updating = work.world.device, 0.0

    def step(self, step: Step) -> torch.Tensor:
        """What `Engine.step` does, timed in two parts."""
        total = torch.zeros((), device=self.device)
        for micro_batch in step.micro_batches:
            total += self.engine.accumulate(micro_batch)
        started = clock()
        self.engine.update()
        self.updating = clock() - started
        return total


def clock() -> float:
    """CPU seconds of this thread where it computes alone, else seconds."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()


def prepare(options: Mapping[str, Any]) -> Work:
    """Read and store the tasks."""
    workspace = open_workspace(options)
    tasks = workspace.suite.select(workspace.config.groups)
    data = build_data(workspace, tasks, Console(quiet=True))
    return Work(workspace.config, data, start())


def loop(work: Work, name: str) -> Bare | Ours:
    """One of the loops, by its name."""
    return Bare(work) if name == "bare" else Ours(work, int(name.removeprefix("zero")))


def interleaved(options: Mapping[str, Any], steps: int, warmup: int) -> dict[str, Any]:
    """Seconds of each loop on the same steps, in turns, and how far their losses part."""
    work, names = prepare(options), LOOPS[options["precision"]]
    loops = {name: loop(work, name) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    updates: dict[str, list[float]] = {name: [] for name in names}
    losses: dict[str, list[float]] = {name: [] for name in names}
    tokens = []
    for number, step in enumerate(islice(work.steps(), warmup + steps)):
        tokens.append(step.tokens)
        first = number % len(names)
        for name in names[first:] + names[:first]:
            torch.manual_seed(number)
            started = clock()
            losses[name].append(float(loops[name].step(step)))
            seconds[name].append(clock() - started)
            updates[name].append(loops[name].updating)
    result: dict[str, Any] = {"tokens_per_step": round(median(tokens[warmup:]))}
    for name in names:
        extra = differences(seconds[name], seconds["bare"])
        over = [1 + more / bare for more, bare in zip(extra, seconds["bare"], strict=True)]
        result[name] = {
            "seconds": spread(seconds[name][warmup:]),
            "passes": spread(differences(seconds[name], updates[name])[warmup:]),
            "update": spread(updates[name][warmup:]),
            "extra": spread(extra[warmup:]),
            "over_bare": spread(over[warmup:]),
            "losses_part_by": max(map(abs, differences(losses[name], losses["bare"]))),
        }
    return result


def differences(ours: list[float], theirs: list[float]) -> list[float]:
    """Step by step."""
    return [one - other for one, other in zip(ours, theirs, strict=True)]


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return {"median": round(middle, 5), "q1": round(low, 5), "q3": round(high, 5)}


def alone(options: Mapping[str, Any], name: str, steps: int, warmup: int) -> dict[str, Any]:
    """One loop with nothing beside it: peak memory, and its wait for the loader."""
    work = prepare(options)
    ours, batches = loop(work, name), work.steps()
    waits, times = [], []
    for _ in range(warmup + steps):
        started = time.perf_counter()
        step = next(batches)
        waits.append(time.perf_counter() - started)
        float(ours.step(step))
        times.append(time.perf_counter() - started)
    return {
        "peak_memory_MiB": PeakMemory(work.world.device).read() >> 20,
        "waiting_for_the_loader": round(sum(waits[warmup:]) / sum(times[warmup:]), 5),
    }


def fresh(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Call a function in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def machine() -> dict[str, Any]:
    """What decides the figures beside the code."""
    return describe_machine(start())


def table(result: Mapping[str, Any]) -> None:
    """Print the figures as Markdown."""
    print("| groups | precision | loop | s a step | passes | update | over bare | peak MiB |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for run in result["runs"]:
        for name in LOOPS[run["precision"]]:
            cells = [f"{run[name][key]['median']:.3f}" for key in ("seconds", "passes", "update")]
            over = run[name]["over_bare"]
            cells.append(f"{over['median']:.3f} ({over['q1']:.3f} to {over['q3']:.3f})")
            cells.append(str(run[name].get("peak_memory_MiB", "")))
            print(f"| {run['groups']} | {run['precision']} | {name} | {' | '.join(cells)} |")


@click.command()
@click.option("--model", help="Folder or hub id of the encoder.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the suite's files.")
@click.option("--suite", default=str(SUITE), help="A suite's name or its TOML file.")
@click.option("--groups", multiple=True, default=("SL", "SL+C", "SL+QA+C"), help="Repeatable.")
@click.option("--precision", multiple=True, default=("fp32",), type=click.Choice([*LOOPS]))
@click.option("--batch-size", default=128)
@click.option("--max-rows-per-task", default=2000)
@click.option("--steps", default=20, help="Measured steps of each loop.")
@click.option("--warmup", default=3, help="Steps before them.")
@click.option("--memory/--no-memory", default=True, help="Also run each loop alone.")
@click.option("--output", type=click.Path(path_type=Path), help="Where to write the figures.")
def main(
    groups: tuple[str, ...],
    precision: tuple[str, ...],
    steps: int,
    warmup: int,
    memory: bool,
    output: Path | None,
    **options: Any,
) -> None:
    """Measure the loops on each combination of GROUPS in each precision."""
    runs = []
    for kind in precision:
        for combination in groups:
            chosen = {**options, "groups": combination, "precision": kind}
            run = fresh(interleaved, chosen, steps, warmup)
            for name in LOOPS[kind] if memory else ():
                run[name] |= fresh(alone, chosen, name, steps // 2, warmup)
            runs.append({"groups": combination, "precision": kind, "steps": steps, **run})
    command = ["python", "benchmarks/overhead.py", *map(str, shown(sys.argv[1:]))]
    result = {"command": " ".join(command), "machine": fresh(machine), "runs": runs}
    table(result)
    if output:
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def shown(arguments: list[str]) -> list[str]:
    """The command line with paths of this machine cut to their last name."""
    return [Path(each).name if Path(each).is_absolute() else each for each in arguments]


if __name__ == "__main__":
    main()
