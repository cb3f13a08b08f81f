"""The DeepSpeed configuration of a run: the user's JSON or ours, checked and completed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
from pydantic import ValidationError

from mtlplug.config import RunConfig
from mtlplug.errors import MtlplugError
from mtlplug.processor import processor

AUTO = "auto"
"""A value that the run fills in."""

SECTIONS = ("zero_optimization", "fp16", "bf16", "optimizer", "scheduler", "data_types", "timers")
"""Parts of a configuration that are objects."""

BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
"""Processor features with which bf16 is faster than fp32."""


def resolve_deepspeed(config: RunConfig, world_size: int) -> dict[str, Any]:
    """The configuration handed to `deepspeed.initialize`.

    Micro-batches are cut by tokens, so accumulation is ours: DeepSpeed is told to accumulate
    until `step()` is called.

    Raises:
        MtlplugError: the JSON cannot be read, or contradicts the options of the run.
    """
    if config.deepspeed_config is None:
        precision = config.precision or default_precision()
        source = files("mtlplug_ds_configs").joinpath(f"zero1_{precision}.json")
        where = source.name
        resolved: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    else:
        where = str(config.deepspeed_config)
        resolved = _read(config.deepspeed_config)
    _check_sections(resolved, where)
    _check_batch(resolved, config, where)
    _check_precision(resolved, config, where)
    _agree(resolved, "gradient_clipping", config.gradient_clipping, where)
    if "optimizer" in resolved:
        resolved["optimizer"]["params"] = _optimizer_parameters(resolved, config, where)
    if AUTO in resolved.get("scheduler", {}).get("params", {}).values():
        raise MtlplugError(
            f"{where} leaves parameters of its scheduler to be filled in; write them out, or "
            "remove the scheduler and use --warmup-ratio"
        )
    per_rank = max(1, config.batch_size // world_size)
    resolved |= {
        "gradient_clipping": config.gradient_clipping,
        # DeepSpeed only multiplies these for its own counters; a batch that does not divide by
        # the ranks is split by tokens all the same.
        "train_micro_batch_size_per_gpu": per_rank,
        "train_batch_size": per_rank * world_size,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "zero_allow_untested_optimizer": True,
    }
    resolved["zero_optimization"].setdefault("overlap_comm", False)
    resolved.setdefault("steps_per_print", 2**31)
    # DeepSpeed's own meter, which nobody sees, waits for the device twice a step.
    resolved.setdefault("timers", {}).setdefault("throughput", {"enabled": False})
    return resolved


def _optimizer_parameters(
    resolved: Mapping[str, Any], config: RunConfig, where: str
) -> dict[str, Any]:
    """The optimizer's parameters with ours filled in; what is `auto` beside is its default."""
    given = resolved["optimizer"].get("params", {})
    _agree(given, "lr", config.learning_rate, where, option="learning-rate")
    _agree(given, "weight_decay", config.weight_decay, where)
    ours = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    return {key: value for key, value in given.items() if value != AUTO} | ours


def default_precision() -> str:
    """What suits the machine: fp16 on CUDA, bf16 on a CPU with units for it, else fp32."""
    if torch.cuda.is_available():
        return "fp16"
    return "bf16" if BF16_FLAGS & processor().flags else "fp32"


def _supported(precision: str) -> bool:
    accelerator = get_accelerator()
    if precision == "fp16":
        return bool(accelerator.is_fp16_supported())
    return precision == "fp32" or bool(accelerator.is_bf16_supported())


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MtlplugError(
            f"deepspeed configuration {path} does not exist; check --deepspeed-config"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise MtlplugError(f"deepspeed configuration {path} cannot be read: {error}") from None
    except json.JSONDecodeError as error:
        raise MtlplugError(
            f"deepspeed configuration {path}, line {error.lineno} is not JSON: {error.msg}"
        ) from None
    if not isinstance(value, dict):
        raise MtlplugError(
            f"deepspeed configuration {path} is not an object; see ds_configs/ for examples"
        )
    return value


def _check_sections(resolved: dict[str, Any], where: str) -> None:
    """Refuse what DeepSpeed would refuse with a traceback when the run has begun."""
    for key in SECTIONS:
        if not isinstance(resolved.get(key, {}), dict):
            raise MtlplugError(
                f"{where}: {key} is not an object but {resolved[key]!r:.60}; "
                "see ds_configs/ for examples"
            )
    for key in ("optimizer", "scheduler"):
        if not isinstance(params := resolved.get(key, {}).get("params", {}), dict):
            raise MtlplugError(
                f"{where}: {key}.params is not an object but {params!r:.60}; "
                "see ds_configs/ for examples"
            )
    for key in ("fp16", "bf16"):
        enabled = resolved.get(key, {}).get("enabled", False)
        if enabled is not True and enabled not in (False, AUTO):
            raise MtlplugError(
                f'{where}: {key}.enabled is {enabled!r:.60}; it must be true, false or "auto"'
            )
    zero = resolved.setdefault("zero_optimization", {})
    try:
        zero["stage"] = int(DeepSpeedZeroConfig(**zero).stage)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(["zero_optimization", *map(str, first["loc"])])
        raise MtlplugError(
            f"{where}: {name} is {first['input']!r:.60}, which deepspeed refuses "
            f"({first['msg'].lower()}); mend or remove it"
        ) from None


def _check_batch(resolved: dict[str, Any], config: RunConfig, where: str) -> None:
    _agree(resolved, "train_batch_size", config.batch_size, where, option="batch-size")
    for key in ("gradient_accumulation_steps", "train_micro_batch_size_per_gpu"):
        if resolved.get(key, AUTO) != AUTO:
            raise MtlplugError(
                f"{where} sets {key} to {resolved[key]}, but micro-batches are cut by tokens here; "
                'remove it (or write "auto") and bound their size with --max-tokens'
            )
    if resolved.get("managed_gradient_accumulation", False):
        raise MtlplugError(
            f"{where} sets managed_gradient_accumulation, but accumulation is ours; remove it"
        )


def _check_precision(resolved: dict[str, Any], config: RunConfig, where: str) -> None:
    """Switch on the precision of the run where the JSON leaves it open."""
    asked = [key for key in ("fp16", "bf16") if resolved.get(key, {}).get("enabled") is True]
    if len(asked) == 2:
        raise MtlplugError(f"{where} enables both fp16 and bf16; enable one")
    open_ = [key for key in ("fp16", "bf16") if resolved.get(key, {}).get("enabled") == AUTO]
    if not asked and open_:
        wanted = config.precision or default_precision()
        for key in open_:
            resolved[key]["enabled"] = key == wanted
        asked = [key for key in open_ if key == wanted]
    says = asked[0] if asked else "fp32"
    if config.precision is not None and config.precision != says:
        raise MtlplugError(
            f"{where} asks for {says}, the run for {config.precision}; "
            f"leave out --precision or change the file"
        )
    if not _supported(says):
        raise MtlplugError(
            f"{where} asks for {says}, which DeepSpeed does not run on this machine's "
            f"{get_accelerator().device_name()}; choose another with --precision"
        )
    stage = resolved["zero_optimization"]["stage"]
    if says != "fp32" and stage == 0:
        raise MtlplugError(
            f"{where} asks for {says} with ZeRO stage 0, which keeps no float32 weights to save; "
            "use stage 1"
        )
    accumulated = resolved.get("data_types", {}).get("grad_accum_dtype") or says
    if stage == 1 and accumulated != says:
        raise MtlplugError(
            f"{where} accumulates gradients in {accumulated} in a run in {says} with ZeRO stage 1, "
            "where DeepSpeed does not add up those of several micro-batches; "
            "remove data_types.grad_accum_dtype or use stage 2"
        )


def _agree(
    resolved: Mapping[str, Any], key: str, ours: float, where: str, option: str | None = None
) -> None:
    theirs = resolved.get(key, AUTO)
    if theirs != AUTO and theirs != ours:
        name = option or key.replace("_", "-")
        raise MtlplugError(
            f"{where} sets {key} to {theirs}, the run to {ours}; "
            f"give --{name} {theirs} or remove it from the file"
        )
