"""Where a step's time goes on a GPU: with and without CUDA graphs, and with compiled layers.

Each case is `GROUPS:PRECISION:WAY`. WAY is `plain`, `graphs` (`mtlplug.model.graphs`) or
`compiled` (graphs of layers that went through torch.compile). A case trains until its buckets are
recorded, then times:

- steps apart, waiting for the device after the passes and after the update: milliseconds of both,
  and after how many of them the host had launched everything;
- steps one after the other, as in training: milliseconds of a step, tokens a second, operations a
  second over those of bare matrix products measured in the same process.

It also counts the calls within a step that made the host wait for the device, as torch's debug
mode sees them.

XLM-R base's shape with random weights and the tokenizer of another model does for MODEL: what a
step costs does not depend on the weights. `--shape` makes one.

Usage: python benchmarks/cuda_steps.py --model DIR --data DIR --output FILE CASE...
"""

from __future__ import annotations

import gc
import itertools
import json
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from transformers import XLMRobertaConfig, XLMRobertaModel

from mtlplug.batching.loader import Step
from mtlplug.bench.ceiling import gemm_ceiling, synchronize
from mtlplug.bench.machine import describe_machine
from mtlplug.bench.measure import dtype_of
from mtlplug.model import attention, kernels
from mtlplug.model.encoder import Encoder
from mtlplug.model.flops import encoder_flops
from mtlplug.pages.typesetting import new_console
from mtlplug.training.deepspeed_config import resolve_deepspeed
from mtlplug.training.engine import Engine
from mtlplug.training.guard import Guard
from mtlplug.training.launch import start
from mtlplug.training.pretrain import build_data, prepare_steps
from mtlplug.workspace import open_workspace
from mtlplug.world import World

WAYS = ("plain", "graphs", "compiled")


def make_shape(folder: Path, tokenizer: Path) -> None:
    """XLM-R base with random weights, and a tokenizer of fewer tokens than it has."""
    config = XLMRobertaConfig(
        vocab_size=250002, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
        intermediate_size=3072, max_position_embeddings=514, type_vocab_size=1,
        layer_norm_eps=1e-5,
    )  # fmt: skip
    torch.manual_seed(0)
    XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    for pattern in ("tokenizer*", "vocab*", "special*"):
        for file in tokenizer.glob(pattern):
            shutil.copy(file, folder)


def waits_in(train: Callable[[Step], Any], step: Step) -> list[str]:
    """Where the host waited for the device."""
    if not torch.cuda.is_available():
        train(step)
        return []
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train(step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    told = [each for each in caught if "synchroniz" in str(each.message)]
    return [f"{'/'.join(Path(each.filename).parts[-3:])}:{each.lineno}" for each in told]


def compile_layers(encoder: Encoder) -> None:
    """Every layer through torch.compile, once for all lengths; attention stays as it is."""
    attention.attend = torch.compiler.disable(kernels.attend)
    for layer in encoder.model.encoder.layer:
        layer.compile(dynamic=True)


def apart(engine: Engine, steps: Iterator[Step], number: int, world: World) -> dict[str, Any]:
    """Milliseconds of passes and update, by the device and by the host, medians."""
    times: dict[str, list[float]] = {
        name: [] for name in ("passes", "passes_launched", "update", "update_launched")
    }
    for step in itertools.islice(steps, number):
        for name, work in (
            ("passes", lambda step=step: engine.accumulate_all(step)),
            ("update", engine.update),
        ):
            synchronize(world.device)
            started = time.perf_counter()
            work()
            times[f"{name}_launched"].append(time.perf_counter() - started)
            synchronize(world.device)
            times[name].append(time.perf_counter() - started)
    return {f"{name}_ms": round(1e3 * median(values), 2) for name, values in times.items()}


def guarded(engine: Engine) -> Callable[[Step], None]:
    """A step, and the look at its gradient that training takes."""
    guard, numbers = Guard(engine), itertools.count(1)

    def train(step: Step) -> None:
        engine.step(step)
        guard.after(next(numbers), step)

    return train


def in_a_row(
    train: Callable[[Step], Any], steps: Iterator[Step], number: int, world: World
) -> dict[str, Any]:
    """Steps as in training: seconds, tokens, and the lengths of what was encoded."""
    lengths: list[int] = []
    synchronize(world.device)
    started = time.perf_counter()
    for step in itertools.islice(steps, number):
        train(step)
        for micro_batch in step.micro_batches:
            lengths += micro_batch.stream.lengths
    synchronize(world.device)
    return {"seconds": time.perf_counter() - started, "lengths": lengths}


def noting(steps: Iterator[Step], tokens: list[int]) -> Iterator[Step]:
    """Steps, with the tokens of each of their micro-batches noted."""
    for step in steps:
        tokens += [sum(micro_batch.stream.lengths) for micro_batch in step.micro_batches]
        yield step


def peaks(world: World) -> dict[str, int]:
    """What tensors took at most, and what was kept for them, which with graphs is more."""
    if world.device.type != "cuda":
        return {}
    return {
        "peak_memory_mib": torch.cuda.max_memory_allocated() >> 20,
        "peak_memory_reserved_mib": torch.cuda.max_memory_reserved() >> 20,
    }


def measure(case: str, options: dict[str, Any], warmup: int, number: int) -> dict[str, Any]:
    """One case."""
    groups, precision, way = case.split(":")
    world = start()
    workspace = open_workspace(
        {**options, "groups": groups, "precision": precision, "cuda_graphs": way != "plain"}
    )
    config = workspace.config
    data = build_data(workspace, workspace.suite.select(groups), new_console(quiet=True))
    encoder = Encoder.from_pretrained(config.model)
    flops = encoder_flops(encoder)
    engine, pool, loader = prepare_steps(
        workspace, data, encoder, resolve_deepspeed(config, 1), world
    )
    if way == "compiled":
        compile_layers(encoder)
    torch.manual_seed(5)
    seen: list[int] = []
    steps = noting(
        loader.steps(itertools.chain.from_iterable(map(pool.epoch, itertools.count()))), seen
    )
    for step in itertools.islice(steps, warmup):
        engine.step(step)
    waits = waits_in(guarded(engine), next(steps))
    times = apart(engine, steps, number, world)
    row = in_a_row(guarded(engine), steps, 2 * number, world)
    memory = peaks(world)
    ceiling = gemm_ceiling(encoder.hidden_size, dtype_of(precision), world.device)["mean"]
    speed = 3 * flops.forward(row["lengths"]) / row["seconds"]
    tokens = sum(row["lengths"])
    result = {
        "groups": groups,
        "precision": precision,
        "way": way,
        **times,
        "step_ms": round(1e3 * row["seconds"] / (2 * number), 2),
        "tokens_per_step": round(tokens / (2 * number)),
        "tokens_per_second": round(tokens / row["seconds"]),
        "tflops": round(speed / 1e12, 1),
        "ceiling_tflops": round(ceiling / 1e12),
        "utilisation": round(speed / ceiling, 3),
        "waits_per_step": waits,
        "parameters": sum(each.numel() for each in engine.model.parameters()),
        "largest_micro_batch_tokens": max(seen),
        **memory,
    }
    engine.engine.destroy()
    del engine, loader, steps, encoder
    gc.collect()
    if world.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return result


@click.command()
@click.argument("cases", nargs=-1, required=True)
@click.option("--model", required=True, type=click.Path(path_type=Path), help="The encoder.")
@click.option("--shape", is_flag=True, help="MODEL is a tokenizer: give XLM-R's shape to it.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="The datasets.")
@click.option("--suite", default="collection", help="A suite's name or its TOML file.")
@click.option("--max-tokens", default=65536, help="Token budget of a micro-batch.")
@click.option("--warmup", default=100, help="Steps before those that count.")
@click.option("--steps", default=12, help="Steps timed apart; twice as many in a row.")
@click.option("--output", type=click.Path(path_type=Path), help="Where to write the figures.")
def main(
    cases: tuple[str, ...],
    model: Path,
    shape: bool,
    warmup: int,
    steps: int,
    output: Path | None,
    **options: Any,
) -> None:
    """Time the CASES, each GROUPS:PRECISION:plain|graphs|compiled."""
    for case in cases:
        if case.count(":") != 2 or case.rsplit(":", 1)[1] not in WAYS:
            raise click.BadParameter(f"'{case}' is not GROUPS:PRECISION:{'|'.join(WAYS)}")
    if shape:
        made = Path(f"{output or 'cuda_steps'}.model")
        make_shape(made, model)
        model = made
    options["model"] = str(model)
    rows = []
    for case in cases:
        rows.append(measure(case, options, warmup, steps))
        click.echo(json.dumps(rows[-1]))
    arguments = [Path(each).name if Path(each).is_absolute() else each for each in sys.argv[1:]]
    report = {
        "command": " ".join(["python", "benchmarks/cuda_steps.py", *arguments]),
        "machine": describe_machine(start()),
        "cases": rows,
    }
    if output:
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
