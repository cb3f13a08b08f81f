"""What saving a checkpoint costs, at the size of MiniLM and of XLM-R base.

Writes the same numbers in turn with `safetensors.torch.save_file` (which may leave them in the
system's memory), with `save_file` and fsync (then they are on the disk, as ours are), and as a
checkpoint of ours; and takes steps of training while one is written and while none is, in turn.

Usage: python benchmarks/reliability/saving.py --size minilm --output FILE
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent))

from outcome import conclude

from mtlplug.training.checkpoint import Checkpoints, Part, name_of
from mtlplug.world import World

SIZES = {
    "minilm": {"vocab_size": 30522, "hidden_size": 384, "intermediate_size": 1536,
               "num_hidden_layers": 6, "max_position_embeddings": 512},
    "xlmr": {"vocab_size": 250002, "hidden_size": 768, "intermediate_size": 3072,
             "num_hidden_layers": 12, "max_position_embeddings": 514, "type_vocab_size": 1},
}  # fmt: skip


@click.command()
@click.option("--size", type=click.Choice(list(SIZES)), default="minilm", show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--tokens", default=1024, show_default=True, help="Of a step of training.")
@click.option("--place", type=click.Path(path_type=Path), help="Write here.")
@click.option("--output", type=click.Path(path_type=Path), help="Write what was found as JSON.")
def main(size: str, rounds: int, tokens: int, place: Path | None, output: Path | None) -> None:
    """Write in three ways, train beside it, compare."""
    torch.manual_seed(0)
    model = encoder_of(SIZES[size])
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    ids = torch.randint(5, 30000, (tokens // 64, 64))
    train(model, optimizer, ids)  # the moments are there
    with tempfile.TemporaryDirectory(dir=place) as folder:
        found = {
            "size": size,
            "parameters": sum(each.numel() for each in model.parameters()),
            "threads": torch.get_num_threads(),
            "writing": writing(Path(folder), captured(model, optimizer), rounds),
            "training": training(Path(folder), model, optimizer, ids, rounds),
        }
    conclude(found, output, failed=False)


def encoder_of(sizes: dict[str, int]) -> torch.nn.Module:
    """A real encoder of a size, untrained."""
    from transformers import XLMRobertaConfig, XLMRobertaModel

    config = XLMRobertaConfig(num_attention_heads=12, **sizes)
    return XLMRobertaModel(config, add_pooling_layer=False)


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, ids: torch.Tensor) -> None:
    """One step."""
    optimizer.zero_grad()
    model(ids).last_hidden_state.square().mean().backward()
    optimizer.step()


def captured(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """A copy of weights and moments, as a run makes one before it goes on."""
    copies = {}
    for name, parameter in model.named_parameters():
        copies[f"weight/{name}"] = parameter.detach().clone()
        for key in ("exp_avg", "exp_avg_sq"):
            copies[f"{key}/{name}"] = optimizer.state[parameter][key].clone()
    return copies


def writing(folder: Path, tensors: dict[str, torch.Tensor], rounds: int) -> dict[str, Any]:
    """Seconds of each way, and what ours takes over the others, round by round."""
    checkpoints = Checkpoints(folder / "ours", World(0, 1, torch.device("cpu")))

    def plain() -> None:
        save_file(tensors, folder / "plain.safetensors")

    def synced() -> None:
        plain()
        with (folder / "plain.safetensors").open("rb") as file:
            os.fsync(file.fileno())

    def ours() -> None:
        checkpoints.save(name_of(1, scored=False), Part(tensors, {}), {"needs": []})
        checkpoints.wait()

    ways: dict[str, Callable[[], None]] = {"save_file": plain, "with fsync": synced, "ours": ours}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name in random.sample(list(ways), len(ways)):
            os.sync()
            before, cpu_before = time.perf_counter(), time.process_time()
            ways[name]()
            seconds[name].append(time.perf_counter() - before)
            cpu[name].append(time.process_time() - cpu_before)
            (folder / "plain.safetensors").unlink(missing_ok=True)
            shutil.rmtree(folder / "ours", ignore_errors=True)
    return {
        "bytes": sum(each.nbytes for each in tensors.values()),
        "seconds": {name: rounded(each) for name, each in seconds.items()},
        "cpu_seconds": {name: rounded(each) for name, each in cpu.items()},
        "ours_over": {
            name: round(statistics.median(seconds["ours"]) / statistics.median(seconds[name]), 3)
            for name in ("save_file", "with fsync")
        },
    }


def training(
    folder: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    ids: torch.Tensor,
    rounds: int,
) -> dict[str, Any]:
    """What steps lose while a checkpoint is written: seconds for the copy, and slower steps."""
    checkpoints = Checkpoints(folder / "ours", World(0, 1, torch.device("cpu")))
    copying, beside, alone = [], [], []
    lost, cpu = [], []
    for _ in range(rounds):
        cpu_before = time.process_time()
        before = time.perf_counter()
        part = Part(captured(model, optimizer), {})
        copying.append(time.perf_counter() - before)
        checkpoints.save(name_of(1, scored=False), part, {"needs": []})
        del part
        during = []
        while checkpoints.writing:
            during.append(timed(lambda: train(model, optimizer, ids)))
        checkpoints.wait()
        cpu_with = time.process_time() - cpu_before
        cpu_before = time.process_time()
        without = [timed(lambda: train(model, optimizer, ids)) for _ in during]
        cpu.append(cpu_with - (time.process_time() - cpu_before))
        lost.append(copying[-1] + sum(during) - sum(without))
        beside += during
        alone += without
        shutil.rmtree(folder / "ours")
    return {
        "copy_seconds": rounded(copying),
        "step_seconds_beside": rounded(beside),
        "step_seconds_alone": rounded(alone),
        "lost_seconds": rounded(lost),
        "lost_cpu_seconds": rounded(cpu),
    }


def timed(work: Callable[[], None]) -> float:
    """Seconds of it."""
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def rounded(values: list[float]) -> dict[str, Any]:
    """The median, and all."""
    return {"median": round(statistics.median(values), 3), "all": [round(v, 3) for v in values]}


if __name__ == "__main__":
    main()
