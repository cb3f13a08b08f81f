"""Checkpoints at the end of epochs: DeepSpeed's own shards, put in place by a rename.

checkpoints/epoch-3/            complete: it has progress.json
    progress.json               epochs done, stopping state, scores so far
    state/                      weights, optimizer, schedule, loss scaler of every rank
    random-0.pt                 random generators of rank 0
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

from mtlplug.errors import MtlplugError
from mtlplug.training.folder import RunFolder
from mtlplug.world import World

PROGRESS = "progress.json"

ALLOWED = (LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address)
"""The only classes besides tensors and plain values that a checkpoint may hold."""


class SafeCheckpointEngine(TorchCheckpointEngine):  # type: ignore[misc]
    """Reads DeepSpeed's files without running code that may be hidden in them."""

    def load(self, path: str, map_location: Any = None) -> Any:
        """The contents of a file.

        Raises:
            pickle.UnpicklingError: it holds anything but tensors, plain values and `ALLOWED`.
        """
        with torch.serialization.safe_globals(list(ALLOWED)):
            return torch.load(path, map_location=map_location, weights_only=True)


def refuse_code(engine: Any) -> None:
    """Make a DeepSpeed engine read its checkpoints without unpickling arbitrary classes."""
    engine.checkpoint_engine = SafeCheckpointEngine()


def save(
    engine: Any, folder: RunFolder, epoch: int, progress: Mapping[str, Any], world: World
) -> None:
    """Write a checkpoint after `epoch` epochs and remove the older ones."""
    unfinished = folder.checkpoints / f"epoch-{epoch}.tmp"
    if world.main:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    world.barrier()
    engine.save_checkpoint(str(unfinished), tag="state", save_latest=False)
    torch.save(_random_state(), unfinished / f"random-{world.rank}.pt")
    world.barrier()
    if world.main:
        text = json.dumps({**progress, "world_size": world.size}, indent=1)
        (unfinished / PROGRESS).write_text(text, encoding="utf-8")
        folder.replace(unfinished, folder.checkpoints / f"epoch-{epoch}")
        for other in _checkpoints(folder)[1:]:
            shutil.rmtree(other)
    world.barrier()


def load(engine: Any, folder: RunFolder, world: World) -> dict[str, Any] | None:
    """Load the newest checkpoint; returns its progress, or None where there is none.

    Raises:
        MtlplugError: it was written by another number of processes, or is damaged.
    """
    found = _checkpoints(folder)
    if not found:
        return None
    try:
        progress: dict[str, Any] = json.loads((found[0] / PROGRESS).read_text(encoding="utf-8"))
        written_by = progress.pop("world_size")
    except (ValueError, KeyError) as error:
        raise _damaged(found[0], error) from error
    if written_by != world.size:
        raise MtlplugError(
            f"checkpoint {found[0]} was written by {written_by} processes and cannot be resumed "
            f"by {world.size}; start {written_by}, or start over with --overwrite"
        )
    try:
        engine.load_checkpoint(str(found[0]), tag="state")
        random = torch.load(found[0] / f"random-{world.rank}.pt", weights_only=True)
    except Exception as error:  # whatever is in the file, what matters is that it is unusable
        raise _damaged(found[0], error) from error
    _set_random_state(random)
    return progress


def _damaged(place: Path, error: Exception) -> MtlplugError:
    reason = ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))
    return MtlplugError(
        f"checkpoint {place} is damaged ({reason}); remove it to start from the beginning"
    )


def _checkpoints(folder: RunFolder) -> list[Path]:
    """Complete checkpoints, the newest first."""
    found = {
        int(match[1]): path
        for path in folder.checkpoints.glob("epoch-*")
        if (match := re.fullmatch(r"epoch-(\d+)", path.name)) and (path / PROGRESS).exists()
    }
    return [found[epoch] for epoch in sorted(found, reverse=True)]


def _random_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: Mapping[str, torch.Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
