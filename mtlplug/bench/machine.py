"""What a figure was measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import torch

import mtlplug
from mtlplug.processor import processor
from mtlplug.world import World

PACKAGES = ("torch", "deepspeed", "transformers", "datasets", "tokenizers")


def describe_machine(world: World) -> dict[str, Any]:
    """Device, cores, threads, ranks and versions, as JSON-like values."""
    cuda = world.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(world.device) if cuda else processor().name,
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "ranks": world.size,
        "platform": f"{platform.system()} {platform.machine()}",
        "mtlplug": mtlplug.__version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }
