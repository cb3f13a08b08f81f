"""The processes of a run: who this one is, and what they tell each other.

What they tell travels as JSON, not as pickle, which whoever reaches the port could fill with code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mtlplug.errors import MtlplugError


@dataclass(frozen=True)
class World:
    """This process among those of the run.

    Attributes:
        rank: its number; rank 0 writes the files and speaks to the user.
        size: number of processes.
        device: where its tensors live.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def own_seed(self, seed: int, *numbers: int) -> int:
        """A seed of this rank's own, below 2^63: from one they share, and further numbers."""
        for number in (self.rank, *numbers):
            seed = seed * 1_000_003 + number
        return seed % 2**63

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, on rank 0; an empty list elsewhere.

        They come back as JSON has them, on one rank too: tuples as lists, keys as texts, arrays
        as lists of numbers; floats keep every bit.

        Raises:
            MtlplugError: a value is not JSON-like.
        """
        told = _told(value)
        if self.size == 1:
            return [json.loads(told)]
        sizes = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        sizes[self.rank] = len(told)
        dist.all_reduce(sizes)
        filled = told.ljust(int(sizes.max()))  # JSON may end in blanks
        pieces = [self._empty(len(filled)) for _ in range(self.size)] if self.main else None
        dist.gather(self._tensor(filled), pieces, dst=0)
        return [json.loads(_bytes(piece)) for piece in pieces or ()]

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, on all ranks, as JSON has it (see `gather`).

        Raises:
            MtlplugError: the value is not JSON-like.
        """
        told = _told(value) if self.main else b""
        if self.size == 1:
            return json.loads(told)
        size = torch.tensor(len(told), device=self.device)
        dist.broadcast(size, src=0)
        data = self._tensor(told) if self.main else self._empty(int(size))
        dist.broadcast(data, src=0)
        return json.loads(_bytes(data))

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier(device_ids=[self.device.index] if self.device.type == "cuda" else None)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def _tensor(self, data: bytes) -> Tensor:
        return torch.frombuffer(bytearray(data), dtype=torch.uint8).to(self.device)

    def _empty(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, device=self.device)


def _told(value: Any) -> bytes:
    return json.dumps(value, default=_plain).encode()


def _plain(value: Any) -> Any:
    """Numbers, arrays and tensors as Python has them."""
    if callable(getattr(value, "tolist", None)):
        return value.tolist()
    raise MtlplugError(
        f"a value of type {type(value).__name__} cannot be told to the other processes; "
        "predictions of a format must be JSON-like: numbers, texts, lists and dictionaries"
    )


def _bytes(data: Tensor) -> bytes:
    return data.cpu().numpy().tobytes()


class Agreement:
    """The largest wish of all ranks, one call late, so that nobody waits for it.

    All ranks call it equally often. The steps in between are what the ranks wait for anyway.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        # On the hosts, so that no device is asked.
        self._group = dist.new_group(backend="gloo") if world.size > 1 else None
        self._wishes = torch.zeros((), dtype=torch.int64)
        self._work: Any = None

    def __call__(self, wish: int) -> int:
        """What was agreed: the same on all ranks."""
        if self._world.size == 1:
            return wish
        agreed = self.close()
        self._wishes.fill_(wish)
        self._work = dist.all_reduce(
            self._wishes, dist.ReduceOp.MAX, group=self._group, async_op=True
        )
        return agreed

    def close(self) -> int:
        """What the last call will have agreed on."""
        if self._work is None:
            return 0
        self._work.wait()
        self._work = None
        return int(self._wishes)
