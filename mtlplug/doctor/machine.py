"""Checks of the machine: versions, processor, GPUs, precision, memory, folders, plugins."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import torch
from deepspeed.accelerator import get_accelerator

from mtlplug import __version__
from mtlplug.doctor.checks import Check, bad, note, ok, size
from mtlplug.plugin_manager import Plugins
from mtlplug.processor import free_memory, processor
from mtlplug.training.deepspeed_config import BF16_FLAGS, default_precision

GIB = 1 << 30
LITTLE_MEMORY, LITTLE_DISK, LITTLE_SHM = 2 * GIB, 2 * GIB, 256 << 20
"""Bytes below which a run is likely to fail: weights of a base encoder with AdamW are 1.5 to
4 GiB, features of a large suite some GiB; containers start with 64 MiB of shared memory, which
NCCL's ranks on one host outgrow."""

USUAL_PORT = 29500
"""Where the ranks of torchrun and of deepspeed meet."""

FEATURES = ("avx2", "avx512f", *sorted(BF16_FLAGS))
DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def machine_checks(cache: Path) -> Iterator[Check]:
    """Everything about the machine that decides how a run goes, cheapest first.

    Args:
        cache: the folder where features are kept.
    """
    yield versions()
    yield cores_and_units()
    yield from gpus()
    yield precision()
    yield memory()
    yield cache_folder(cache)
    yield shared_memory()
    yield port()


def versions() -> Check:
    """What is installed."""
    found = {"python": platform.python_version(), "mtlplug": __version__} | {
        name: version(name) for name in ("torch", "transformers", "deepspeed")
    }
    return ok("versions", ", ".join(f"{name} {each}" for name, each in found.items()), **found)


def cores_and_units() -> Check:
    """Cores that this process may use, threads that torch uses, units for bf16."""
    name, flags = processor()
    cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    features = [feature for feature in FEATURES if feature in flags]
    units = ", ".join(features) or "no vector units"
    found = f"{name}, {cores} cores, {threads} torch threads, {units}"
    facts = {"cores": cores, "threads": threads, "features": features}
    if threads > cores:
        remedy = f"threads wait for each other: set OMP_NUM_THREADS={cores}"
        return note("processor", found, remedy, **facts)
    return ok("processor", found, **facts)


def gpus() -> Iterator[Check]:
    """Name, memory and compute capability of each GPU that torch sees."""
    if not torch.cuda.is_available():
        yield ok("GPU", "none that torch sees: training runs on the processor", gpus=0)
        return
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        yield ok(
            f"GPU {number}",
            f"{properties.name}, {size(free)} of {size(total)} free, "
            f"compute capability {properties.major}.{properties.minor}",
            name=properties.name,
            free_bytes=free,
            total_bytes=total,
            capability=[properties.major, properties.minor],
        )


def precision() -> Check:
    """What a run computes in, and what else DeepSpeed runs here."""
    chosen, accelerator = default_precision(), get_accelerator()
    supported = [DTYPES[dtype] for dtype in accelerator.supported_dtypes() if dtype in DTYPES]
    facts = {"chosen": chosen, "supported": supported}
    found = f"a run chooses {chosen}; DeepSpeed runs {', '.join(supported)} here"
    if torch.cuda.is_available() != (accelerator.device_name() == "cuda"):
        found += f", on its accelerator '{accelerator.device_name()}'"
        remedy = "torch and DeepSpeed disagree about the device: unset DS_ACCELERATOR"
        return bad("precision", found, remedy, **facts)
    if chosen == "fp32" and "bf16" in supported:
        found += f" (bf16 slowly: the processor has none of {', '.join(sorted(BF16_FLAGS))})"
    return ok("precision", found, **facts)


def memory() -> Check:
    """Memory this process can still get."""
    free = free_memory()
    if free is None:
        return note("memory", "how much is free is not known on this system")
    found = f"{size(free)} free"
    if free < LITTLE_MEMORY:
        remedy = "end other programs; lower --max-tokens"
        return note("memory", found, remedy, free_bytes=free)
    return ok("memory", found, free_bytes=free)


def cache_folder(folder: Path) -> Check:
    """Whether features can be stored, and how much room there is for them."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        remedy = "choose another with --cache or the variable MTLPLUG_CACHE"
        return bad("cache", f"{folder} cannot be written ({error.strerror})", remedy)
    facts = {"folder": str(folder), "free_bytes": free}
    found = f"{folder}, {size(free)} free"
    if free < LITTLE_DISK:
        return note("cache", found, "make room, or choose another folder with --cache", **facts)
    return ok("cache", found, **facts)


def shared_memory() -> Check:
    """The size of /dev/shm, through which GPU ranks of one host talk."""
    place = Path("/dev/shm")
    if not place.is_dir():
        return ok("shared memory", "no /dev/shm on this system")
    usage = shutil.disk_usage(place)
    found = f"/dev/shm: {size(usage.free)} of {size(usage.total)} free"
    facts = {"free_bytes": usage.free, "total_bytes": usage.total}
    if usage.free < LITTLE_SHM:
        remedy = "several GPU ranks need more: start the container with --shm-size=1g"
        return note("shared memory", found, remedy, **facts)
    return ok("shared memory", found, **facts)


def port() -> Check:
    """Whether the port is free at which ranks meet where their launcher is told of no other."""
    facts = {"port": USUAL_PORT}
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", USUAL_PORT))
        except OSError as error:
            found = f"{USUAL_PORT} cannot be had ({error.strerror})"
            remedy = "with several ranks, choose another: deepspeed --master_port 29501"
            return note("port", found, remedy, **facts)
    return ok("port", f"{USUAL_PORT} is free", **facts)


def plugin_checks(plugins: Plugins) -> Iterator[Check]:
    """Each plugin with the formats it brings, or why it is left out."""
    for plugin in plugins.plugins:
        name = f"plugin {plugin.name}"
        owner = f"{plugin.distribution} {plugin.version}"
        facts = {"distribution": plugin.distribution, "version": plugin.version}
        if plugin.error:
            yield bad(name, f"{owner} is left out: {plugin.error}", plugin.remedy, **facts)
        elif plugin.off:
            yield note(name, f"{owner} is {plugin.off}", **facts)
        else:
            titles = [f"{code} ({plugins.formats[code].title})" for code in plugin.formats]
            found = f"{owner}: {', '.join(titles) or 'no format'}"
            yield ok(name, found, formats=list(plugin.formats), **facts)
    if not plugins.formats:
        remedy = "reinstall mtlplug, whose own formats are plugins too"
        yield bad("plugins", "no task format is installed", remedy)
