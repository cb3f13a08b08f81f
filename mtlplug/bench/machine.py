"""What a figure was measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import torch

import mtlplug
from mtlplug.world import World

PACKAGES = ("torch", "deepspeed", "transformers", "datasets", "tokenizers")


def describe_machine(world: World) -> dict[str, Any]:
    """Device, cores, threads, ranks and versions, as JSON-like values."""
    cuda = world.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(world.device) if cuda else processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "ranks": world.size,
        "platform": platform.platform(),
        "mtlplug": mtlplug.__version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def processor() -> str:
    """The processor's name, as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
