"""Sequences laid end to end, as the encoder reads them.

Shapes: T tokens, S sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtlplug.data.records import counting
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
        lengths: npt.NDArray[Any] | None = None,
    ) -> TokenStream:
        """A stream on the CPU, in the order given; quickest to encode sorted by length.

        Args:
            ids: token ids of each sequence, integers.
            types: token type ids of each sequence, of the same lengths.
            lengths: tokens of each sequence, where an array of `ids` holds several end to end.

        Raises:
            MtlplugError: there is no sequence, one is empty, or ids and types do not match.
        """
        sizes, typed = list(map(len, ids)), list(map(len, types))
        lengths_S = np.array(sizes if lengths is None else lengths, dtype=np.int64)
        starts_S1 = np.zeros(len(lengths_S) + 1, dtype=np.int64)
        lengths_S.cumsum(out=starts_S1[1:])
        positions_T = counting(int(starts_S1[-1])) - starts_S1[:-1].repeat(lengths_S)
        on_host = tuple(lengths_S.tolist())
        _check(on_host, len(positions_T), sizes, typed)
        return cls(
            torch.from_numpy(_joined(ids)),
            torch.from_numpy(_joined(types)),
            torch.from_numpy(positions_T),
            torch.from_numpy(starts_S1.astype(np.int32)),
            on_host,
        )

    def moved(self, move: Callable[[Tensor], Tensor]) -> TokenStream:
        """The same stream, each tensor as `move` gives it: on another device, in other memory."""
        return TokenStream(
            move(self.ids_T),
            move(self.types_T),
            move(self.positions_T),
            move(self.starts_S1),
            self.lengths,
        )

    def to(self, device: torch.device) -> TokenStream:
        """The same stream on another device, copied without waiting."""
        return self.moved(lambda values: values.to(device, non_blocking=True))

    def __len__(self) -> int:
        return len(self.lengths)


def _joined(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
    if len(parts) == 1:
        return parts[0].astype(np.int64, copy=False)
    return np.concatenate(parts, dtype=np.int64)


def _check(lengths: Sequence[int], total: int, ids: Sequence[int], types: Sequence[int]) -> None:
    if not lengths or 0 in lengths:
        what = f"sequence {lengths.index(0)} of {len(lengths)} is empty" if lengths else "got none"
        raise MtlplugError(f"the encoder reads one or more sequences of tokens; {what}")
    if ids != types or sum(ids) != total:
        raise MtlplugError(
            f"{sum(ids)} token ids and {sum(types)} token type ids do not match "
            f"{len(lengths)} sequences of {total} tokens; give each token one of both"
        )
