"""What an engine must not lose: where its numbers lie under each ZeRO stage, in files and back.

Every number is known by its parameter's name and its place in the flattened parameter, so that
what some ranks wrote can be read by any other number of ranks. DeepSpeed's own checkpoints
unpickle, and can be read by as many ranks as wrote them.

Shapes: N numbers of a piece.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepspeed import DeepSpeedEngine
from safetensors import safe_open
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

MASTER = "weight"
"""Key of a parameter's value in float32, beside the keys of the optimizer's state."""

SCALER = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")
"""State of DeepSpeed's loss scaler."""

COUNTERS = ("global_steps", "global_samples", "micro_steps", "skipped_steps")
"""Counters of a DeepSpeed engine."""

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Piece:
    """Numbers of one parameter that this rank updates.

    Attributes:
        name: of the parameter.
        start: their place in the flattened parameter.
        owner: the tensor in which the optimizer has them.
        offset: their place in the flattened owner.
        length: how many.
    """

    name: str
    start: int
    owner: Tensor
    offset: int
    length: int

    def of(self, tensor: Tensor) -> Tensor:
        """These numbers of the owner, or of a state of its size; a view (N,)."""
        return tensor.detach().view(-1)[self.offset : self.offset + self.length]


def pieces(engine: DeepSpeedEngine) -> list[Piece]:
    """All numbers that this rank updates, parameter by parameter.

    Without ZeRO every rank has all of them.
    """
    zero, found = engine.optimizer, []
    for name, parameter in engine.module.named_parameters():
        if hasattr(parameter, "ds_id"):  # ZeRO 3
            group, offset, length = zero.grad_position[zero.get_param_id(parameter)]
            start = length * engine.global_rank
            owner, length = zero.fp32_partitioned_groups_flat[group], parameter.ds_numel - start
            length = min(length, parameter.ds_tensor.ds_numel)
        elif engine.zero_optimization():
            if (mapping := parameter._hp_mapping) is None:
                continue
            owner = zero.single_partition_of_fp32_groups[mapping.param_group_index]
            start, length = mapping.lp_fragment_address.start, mapping.hp_fragment_address.numel
            offset = mapping.hp_fragment_address.start
        else:
            owner, start, offset, length = parameter, 0, 0, parameter.numel()
        if length > 0:
            found.append(Piece(name, start, owner, offset, length))
    return found


def capture(engine: DeepSpeedEngine, *, copy: bool) -> tuple[Tensors, dict[str, Any]]:
    """This rank's numbers in the host's memory, and where they belong.

    Args:
        engine: as it is between two steps.
        copy: training goes on while they are used.

    Returns:
        Tensors by "key/parameter", and JSON-like facts about them.
    """
    optimizer = engine.basic_optimizer
    # Without ZeRO all ranks have the same.
    writes = engine.zero_optimization() or engine.global_rank == 0
    tensors: Tensors = {}
    facts: dict[str, Any] = {"starts": {}, "scalars": {}}
    for piece in pieces(engine) if writes else ():
        facts["starts"][piece.name] = piece.start
        state = optimizer.state.get(piece.owner, {})
        held = {key: value for key, value in state.items() if _is_full(value, piece.owner)}
        for key, value in {MASTER: piece.owner, **held}.items():
            tensors[f"{key}/{piece.name}"] = _on_host(piece.of(value), copy)
        facts["scalars"][piece.name] = {
            key: _scalar(value) for key, value in state.items() if key not in held
        }
    for name, buffer in engine.module.named_buffers():
        tensors[f"buffer/{name}"] = _on_host(buffer, True)
    tensors["random/torch"] = torch.get_rng_state()
    if engine.device.type == "cuda":
        tensors["random/cuda"] = torch.cuda.get_rng_state(engine.device)
    facts["random"] = {"python": random.getstate(), "numpy": _numpy_state()}
    return tensors, facts


def size_of(engine: DeepSpeedEngine) -> int:
    """Bytes that `capture` takes, for optimizers with Adam's state."""
    return sum(3 * 4 * piece.length for piece in pieces(engine))


def capture_shared(engine: DeepSpeedEngine) -> dict[str, Any]:
    """What is the same on all ranks: schedule, loss scale, counters, shapes; JSON-like."""
    scaler = getattr(engine.optimizer, "loss_scaler", None)
    groups = engine.basic_optimizer.param_groups
    return {
        "shapes": {name: _shape(each) for name, each in engine.module.named_parameters()},
        "counters": {name: int(getattr(engine, name)) for name in COUNTERS},
        "schedule": {
            k: v for k, v in engine.lr_scheduler.state_dict().items() if k != "lr_lambdas"
        },
        "scaler": {name: getattr(scaler, name) for name in SCALER if hasattr(scaler, name)},
        "groups": [{k: v for k, v in g.items() if isinstance(v, int | float)} for g in groups],
    }


def restore(engine: DeepSpeedEngine, shards: Shards, shared: Mapping[str, Any]) -> None:
    """Put captured numbers back, whichever ranks they came from.

    Raises:
        KeyError: a number is missing.
        ValueError: a parameter has another shape.
    """
    _check_shapes(engine, shared["shapes"])
    optimizer = engine.basic_optimizer
    # Such optimizers count steps where the parameters are, wherever the run has begun.
    on_device = any(optimizer.defaults.get(each) for each in ("fused", "capturable"))
    owners: dict[Tensor, dict[str, Any]] = {}
    for piece in pieces(engine):
        piece.of(piece.owner).copy_(shards.read(MASTER, piece.name, piece.start, piece.length))
        state = owners.setdefault(piece.owner, {})
        for key in shards.state_keys(piece.name):
            if key not in state:
                state[key] = torch.zeros_like(piece.owner, requires_grad=False)
            piece.of(state[key]).copy_(shards.read(key, piece.name, piece.start, piece.length))
        for key, (value, place) in shards.scalars(piece.name).items():
            device = piece.owner.device if place == "device" or on_device else "cpu"
            state[key] = value if place == "number" else torch.tensor(value, device=device)
    optimizer.state.update({owner: state for owner, state in owners.items() if state})
    _update_model(engine)
    for name, buffer in engine.module.named_buffers():
        buffer.copy_(shards.buffer(name, engine.global_rank))
    _restore_shared(engine, shared)


def restore_random(engine: DeepSpeedEngine, shards: Shards) -> None:
    """Put this rank's random generators back."""
    torch.set_rng_state(shards.own("random/torch", engine.global_rank))
    began_on_cuda = shards.has("random/cuda", engine.global_rank)
    if engine.device.type == "cuda" and began_on_cuda:
        torch.cuda.set_rng_state(shards.own("random/cuda", engine.global_rank), engine.device)
    state = shards.facts[engine.global_rank]["random"]
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))


class Shards:
    """What the ranks of an earlier run wrote: `rank-0.safetensors`, with facts about each.

    Args:
        files: by rank.
        facts: by rank, as `capture` gave them.
    """

    def __init__(self, files: Sequence[Path], facts: Sequence[Mapping[str, Any]]) -> None:
        self.facts = facts
        self._files: list[Any] = [safe_open(file, framework="pt") for file in files]
        self._keys: dict[str, list[str]] = {}
        for name in [key for file in self._files for key in file.keys()]:  # noqa: SIM118
            key, _, parameter = name.partition("/")
            if key not in (MASTER, "buffer", "random"):
                known = self._keys.setdefault(parameter, [])
                known.extend([key] if key not in known else [])

    def state_keys(self, parameter: str) -> list[str]:
        """Names of the optimizer's tensors for a parameter."""
        return self._keys.get(parameter, [])

    def scalars(self, parameter: str) -> dict[str, tuple[float, str]]:
        """Numbers the optimizer keeps for the whole parameter, and what holds each."""
        found = (each["scalars"].get(parameter) for each in self.facts)
        return dict(next((each for each in found if each is not None), {}))

    def read(self, key: str, parameter: str, start: int, length: int) -> Tensor:
        """Numbers of a flattened parameter, (length,), from all files that hold some.

        Raises:
            KeyError: no file holds one of them.
        """
        parts = []
        at, end = start, start + length
        for file, facts in sorted(
            zip(self._files, self.facts, strict=True),
            key=lambda pair: pair[1]["starts"].get(parameter, -1),
        ):
            first = facts["starts"].get(parameter)
            if first is None or first > at or at == end:
                continue
            numbers = file.get_slice(f"{key}/{parameter}")
            last = min(end, first + numbers.get_shape()[0])
            if last > at:
                parts.append(numbers[at - first : last - first])
                at = last
        if at < end:
            raise KeyError(f"{key} of {parameter} from number {at}")
        return torch.cat(parts)

    def whole(self, parameter: str, shape: list[int]) -> Tensor:
        """A parameter in float32."""
        numel = int(np.prod(shape, dtype=np.int64))
        return self.read(MASTER, parameter, 0, numel).view(shape)

    def buffer(self, name: str, rank: int) -> Tensor:
        """A buffer of the model as this rank had it, or else rank 0."""
        return self.own(f"buffer/{name}", rank if rank < len(self._files) else 0)

    def buffers(self) -> Iterator[str]:
        """Names of the model's buffers."""
        for key in self._files[0].keys():  # noqa: SIM118
            if key.startswith("buffer/"):
                yield key.removeprefix("buffer/")

    def has(self, key: str, rank: int) -> bool:
        """Whether a rank's file holds a tensor."""
        return key in self._files[rank].keys()  # noqa: SIM118

    def own(self, key: str, rank: int) -> Tensor:
        """A tensor of one rank's file."""
        tensor: Tensor = self._files[rank].get_tensor(key)
        return tensor


def _check_shapes(engine: DeepSpeedEngine, shapes: Mapping[str, list[int]]) -> None:
    """Numbers are read by their places: in another shape they would be another row's."""
    for name, parameter in engine.module.named_parameters():
        if (here := _shape(parameter)) != (there := shapes.get(name, here)):
            raise ValueError(f"{name} has shape {there}, not {here}")


def _update_model(engine: DeepSpeedEngine) -> None:
    """Copy the optimizer's weights to those the model computes with, as a step does."""
    zero, stage = engine.optimizer, engine.zero_optimization_stage()
    if stage in (1, 2):
        zero.update_lp_params()
    elif stage == 3:
        for half, full in zip(
            zero.fp16_partitioned_groups_flat, zero.fp32_partitioned_groups_flat, strict=True
        ):
            half.data.copy_(full.data)
        if persistent := zero.persistent_parameters:
            persistent[0].partition(persistent)
            persistent[0].all_gather(persistent)


def _restore_shared(engine: DeepSpeedEngine, shared: Mapping[str, Any]) -> None:
    for name, value in shared["counters"].items():
        setattr(engine, name, value)
    engine.lr_scheduler.load_state_dict({"lr_lambdas": [None], **shared["schedule"]})
    for name, value in shared["scaler"].items():
        setattr(engine.optimizer.loss_scaler, name, value)
    for group, saved in zip(engine.basic_optimizer.param_groups, shared["groups"], strict=True):
        group.update(saved)
    schedule = engine.lr_scheduler
    if isinstance(schedule, LambdaLR):  # ours, over the steps of this run: they may have changed
        groups = engine.basic_optimizer.param_groups
        factors = (factor(schedule.last_epoch) for factor in schedule.lr_lambdas)
        for group, rate, factor in zip(groups, schedule.base_lrs, factors, strict=True):
            group["lr"] = rate * factor


def _is_full(value: Any, owner: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == owner.shape and value.dim() > 0


def _scalar(value: Any) -> tuple[float, str]:
    """A number of the optimizer, and what holds it: a tensor on the device or not, or nothing."""
    if isinstance(value, Tensor):
        return value.item(), "host" if value.device.type == "cpu" else "device"
    return value, "number"


def _shape(parameter: Any) -> list[int]:
    return list(getattr(parameter, "ds_shape", parameter.shape))


def _on_host(tensor: Tensor, copy: bool) -> Tensor:
    return tensor.detach().to("cpu", copy=copy).contiguous()


def _numpy_state() -> list[Any]:
    name, keys, *rest = np.random.get_state()
    return [name, np.asarray(keys).tolist(), *rest]
