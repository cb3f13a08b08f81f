"""How a process of a run starts: alone, under the deepspeed launcher, or under torchrun."""

from __future__ import annotations

import logging
import os
import socket

import deepspeed
import torch
import torch.distributed as dist

from mtlplug.errors import MtlplugError
from mtlplug.world import World


def set_environment() -> None:
    """Make a plain `python mtlplug/run.py` look like a launcher's only process."""
    if "RANK" not in os.environ:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))


def start() -> World:
    """Join the other processes of the run, however it was started."""
    set_environment()
    size, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    if torch.cuda.is_available():
        device = torch.device("cuda", _own_gpu())
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
        _share_cores(size)
        # DeepSpeed would compile a shared-memory operation at the first start on a CPU, which
        # takes minutes and hangs where an earlier build was killed; gloo does without.
        deepspeed.ops.__compatible_ops__.pop("deepspeed_shm_comm", None)
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    if not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        if size == 1:
            # Alone there is nobody to meet: no port is opened, and no name asked of a server.
            store = dist.HashStore()  # type: ignore[attr-defined]
            dist.init_process_group(backend, store=store, rank=0, world_size=1)
        _meet(backend)
    return World(rank, size, device)


def _own_gpu() -> int:
    """The number of this process's GPU.

    Raises:
        MtlplugError: there are more processes than GPUs.
    """
    number, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= there:
        raise MtlplugError(
            f"process {number} of this host has no GPU of its own: there are {there}; start at "
            f"most {there} processes on it, or hide all GPUs with CUDA_VISIBLE_DEVICES="
        )
    return number


def _meet(backend: str) -> None:
    """Join the other processes.

    Raises:
        MtlplugError: another program listens where they should meet.
    """
    try:
        deepspeed.init_distributed(dist_backend=backend, verbose=False)
    except dist.DistNetworkError as error:
        if "EADDRINUSE" not in str(error):
            raise
        port = os.environ["MASTER_PORT"]
        raise MtlplugError(
            f"port {port} of {os.environ['MASTER_ADDR']} is in use by another program or run; "
            "choose another with the launcher's --master_port (torchrun: --master-port)"
        ) from None


def ranks_here(size: int) -> int:
    """How many of the ranks are on this host, as the launcher tells."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or size)


def _share_cores(size: int) -> None:
    """Give each process of this host its share of the cores, unless the user said otherwise."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks_here(size)))
