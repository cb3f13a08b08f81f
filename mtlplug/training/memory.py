"""Peak memory of a run, foretold from its parameters, its precision and its largest micro-batch.

Bytes of a parameter, and how ZeRO shares them among N ranks:

    weights         4, in half precision 2; /N from stage 3 on
    float32 copy    4 from stage 1 on, in half precision always; /N from stage 1 on
    moments         8 (AdamW's two, float32); /N from stage 1 on
    gradients       4, in half precision 2; /N from stage 2 on
    flat gradient   4 from stage 1 on, while the parameters are updated; /N

Beside these come what the largest micro-batch keeps for its backward pass
(`mtlplug.model.activations`), and on a CPU the libraries, and the best epoch's encoder, which is
read again and saved while the engine is still there (8, rank 0). A checkpoint is copied in the
host's memory (twice 12 / N) only where that is to spare, so it is no part of what a run needs.

On CPUs this was compared with what runs take (`benchmarks/memory.py`). On a GPU tensors take less,
as activations are gone before the flat gradient is made; but CUDA graphs keep what they compute in,
and how much a GPU must have then was not measured (docs/configuration.md).
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import torch

from mtlplug.batching.mixing import Pool
from mtlplug.batching.packing import Packer
from mtlplug.config import RunConfig
from mtlplug.errors import MtlplugError
from mtlplug.model.activations import Activations
from mtlplug.processor import free_memory
from mtlplug.training.engine import precision_of
from mtlplug.training.launch import ranks_here
from mtlplug.world import World

LIBRARIES = {"cpu": 640 << 20, "cuda": 600 << 20}
"""The interpreter, torch, DeepSpeed and transformers, loaded and at work; on a GPU its context."""

PASSING = 1.35
"""What is in use at the peak of a backward pass, over what was kept for it: gradients of
activations, and results on their way from one operation to the next."""

BATCHES = 500
"""Batches of the first epoch that are looked at for the largest micro-batch."""

GIB = 1 << 30


@dataclass(frozen=True)
class Memory:
    """Peak memory of one rank, in bytes, by what takes it.

    Attributes:
        libraries: what a process has before it trains.
        weights: parameters, with their float32 copy.
        optimizer: moments.
        gradients: of parameters.
        activations: of the largest micro-batch.
        saving: the result, read and written beside the engine.
        parameters: their number, of encoder and heads, that are trained.
        tokens: of the largest micro-batch.
        stage: of ZeRO.
    """

    libraries: float
    weights: float
    optimizer: float
    gradients: float
    activations: float
    saving: float
    parameters: int
    tokens: int
    stage: int

    @property
    def peak(self) -> float:
        """The larger of training and saving the result."""
        state = self.libraries + self.weights + self.optimizer
        return state + max(self.gradients + self.activations, self.saving)

    def as_dict(self) -> dict[str, float]:
        """Each part, and the peak."""
        return {**asdict(self), "peak": self.peak}


def foretell(
    parameters: int,
    activations: float,
    tokens: int,
    deepspeed_config: Mapping[str, Any],
    world: World,
    left_out: int = 0,
) -> Memory:
    """The peak of one rank.

    Args:
        parameters: of encoder and heads, that are trained.
        activations: bytes of the largest micro-batch, in float32.
        tokens: of that micro-batch.
        deepspeed_config: resolved.
        world: the processes of the run.
        left_out: parameters that are saved and not trained (`mtlplug.model.vocabulary`).
    """
    half = precision_of(deepspeed_config) != "fp32"
    stage = int(deepspeed_config["zero_optimization"]["stage"])
    width, share = (2 if half else 4), 1 / world.size
    cpu = world.device.type == "cpu"
    weights = width * (share if stage >= 3 else 1)
    weights += 4 * (share if stage else 1) * (half or stage > 0)
    gradients = width * (share if stage >= 2 else 1) + 4 * share * (stage > 0)
    return Memory(
        libraries=LIBRARIES[world.device.type],
        weights=weights * parameters,
        optimizer=8 * (share if stage else 1) * parameters,
        gradients=gradients * parameters,
        activations=PASSING * activations * (0.5 if half else 1),
        saving=8 * (parameters + left_out) if cpu and world.main else 0,
        parameters=parameters,
        tokens=tokens,
        stage=stage,
    )


def largest_micro_batch(
    packer: Packer, pool: Pool, ranks: int, activations: Activations, *, checkpointing: bool
) -> tuple[float, int]:
    """What the largest micro-batch of an epoch keeps, in bytes, and its tokens."""
    found = [
        (activations.kept(lengths, checkpointing=checkpointing), int(lengths.sum()))
        for members in islice(pool.epoch(0), BATCHES)
        for parts in packer.plan(members, ranks)
        for lengths in map(packer.lengths, parts)
    ]
    return max(found)


def give_back_memory(*, to_system: bool = True) -> None:
    """Free what is held and not used any more: the last engine, or what passes left behind.

    Args:
        to_system: also what the C library keeps of it; looking for it takes a tenth of a second.
    """
    gc.collect()  # DeepSpeed's engine holds itself in cycles
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if not to_system:
        return
    with suppress(OSError, AttributeError):  # glibc keeps what is freed; others have no such call
        ctypes.CDLL(None).malloc_trim(0)


def free_bytes(device: torch.device) -> int | None:
    """Memory that can still be had where a run's tensors lie; None: not known."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else free_memory()


def check_memory(memory: Memory, config: RunConfig, world: World) -> None:
    """Refuse what cannot fit, on all ranks alike: rank 0 decides.

    The libraries are there already, and so not among what must still be free.

    Raises:
        MtlplugError: says what is needed, what there is, and what to change.
    """
    if problem := world.broadcast(_misfit(memory, config, world) if world.main else None):
        raise MtlplugError(problem)


def _misfit(memory: Memory, config: RunConfig, world: World) -> str | None:
    """What is said of a run that cannot fit; None where it can, or nothing is known."""
    free = free_bytes(world.device)
    here = ranks_here(world.size) if world.device.type == "cpu" else 1
    needed = here * (memory.peak - memory.libraries)
    if free is None or needed <= free:
        return None
    place = "this GPU" if world.device.type == "cuda" else "this machine"
    advice = ", ".join(_advice(memory, config, world.size))
    return (
        f"the run would take {needed / GIB:.1f} GiB, of which activations "
        f"{here * memory.activations / GIB:.1f}, and {place} has {free / GIB:.1f} GiB free; "
        f"{advice}, or begin all the same with --ignore-memory"
    )


def _advice(memory: Memory, config: RunConfig, ranks: int) -> Sequence[str]:
    """What lessens memory, the most useful first."""
    found = []
    if memory.activations > memory.optimizer / 2:
        found.append(f"lower --max-tokens (now {config.max_tokens})")
        if not config.gradient_checkpointing:
            found.append("use --gradient-checkpointing")
    if ranks > 1 and memory.stage < 3:
        found.append(f"take a higher ZeRO stage (now {memory.stage}) with --deepspeed-config")
    return found or ["take a smaller --model, or more ranks with ZeRO"]
