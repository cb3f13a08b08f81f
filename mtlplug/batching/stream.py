"""Sequences laid end to end, as the encoder reads them.

Shapes: T tokens, S sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtlplug.errors import MtlplugError


@dataclass(frozen=True)
class TokenStream:
    """Sequences laid end to end without padding.

    Attributes:
        ids_T: token ids, int64.
        types_T: token type ids, int64.
        positions_T: position of each token in its own sequence, from 0, int64.
        starts_S1: where each sequence starts, and T at the end; int32, shape (S + 1,). What
            kernels for sequences of different lengths call `cu_seqlens`.
        lengths: tokens of each sequence, on the host, so that nothing waits for the device.
    """

    ids_T: Tensor
    types_T: Tensor
    positions_T: Tensor
    starts_S1: Tensor
    lengths: tuple[int, ...]

    @classmethod
    def of(
        cls,
        ids: Sequence[npt.NDArray[Any]],
        types: Sequence[npt.NDArray[Any]],
        lengths: Sequence[int] | None = None,
    ) -> TokenStream:
        """A stream on the CPU, in the order given; quickest to encode sorted by length.

        Args:
            ids: token ids of each sequence, integers.
            types: token type ids of each sequence, of the same lengths.
            lengths: tokens of each sequence, where an array of `ids` holds several end to end.

        Raises:
            MtlplugError: there is no sequence, one is empty, or ids and types do not match.
        """
        sizes = tuple(map(len, ids))
        lengths = sizes if lengths is None else tuple(lengths)
        _check(lengths, sizes, tuple(map(len, types)))
        starts_S1 = np.zeros(len(lengths) + 1, dtype=np.int32)
        np.cumsum(lengths, out=starts_S1[1:])
        positions_T = np.arange(starts_S1[-1]) - np.repeat(starts_S1[:-1], lengths)
        return cls(
            torch.from_numpy(np.concatenate(ids, dtype=np.int64)),
            torch.from_numpy(np.concatenate(types, dtype=np.int64)),
            torch.from_numpy(positions_T.astype(np.int64, copy=False)),
            torch.from_numpy(starts_S1),
            lengths,
        )

    def to(self, device: torch.device, non_blocking: bool = True) -> TokenStream:
        """The same stream on another device."""
        return TokenStream(
            self.ids_T.to(device, non_blocking=non_blocking),
            self.types_T.to(device, non_blocking=non_blocking),
            self.positions_T.to(device, non_blocking=non_blocking),
            self.starts_S1.to(device, non_blocking=non_blocking),
            self.lengths,
        )

    def pin_memory(self) -> TokenStream:
        """The same stream in page-locked memory, for asynchronous copies."""
        return TokenStream(
            self.ids_T.pin_memory(),
            self.types_T.pin_memory(),
            self.positions_T.pin_memory(),
            self.starts_S1.pin_memory(),
            self.lengths,
        )

    def __len__(self) -> int:
        return len(self.lengths)


def _check(lengths: tuple[int, ...], ids: tuple[int, ...], types: tuple[int, ...]) -> None:
    if not lengths or 0 in lengths:
        what = f"sequence {lengths.index(0)} of {len(lengths)} is empty" if lengths else "got none"
        raise MtlplugError(f"the encoder reads one or more sequences of tokens; {what}")
    if ids != types or sum(ids) != sum(lengths):
        raise MtlplugError(
            f"{sum(ids)} token ids and {sum(types)} token type ids do not match "
            f"{len(lengths)} sequences of {sum(lengths)} tokens; give each token one of both"
        )
