"""A feature as one run of 32-bit words, and many of them taken apart at once.

All of a feature lies together, so that it is one read from disk and one slice, and the parts of
a whole batch are told apart by arithmetic on arrays rather than feature by feature.

    words of a record: header (tokens, reads, sequences, target) | tokens | reads |
                       lengths of the sequences | target

A token is one word, its type in the upper eight bits. A target is the bytes of its own type.

Shapes: B features, T tokens, R reads, S sequences, W words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mtlplug.errors import MtlplugError

Words = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]

HEADER = 4
"""Words in front of each record: how many of each of its parts follow."""

TYPE_BITS = 24
"""Bits of a token's id; its type lies above."""

_HEADER_41 = np.arange(HEADER)[:, None]

_NUMBERS = np.arange(1 << 16)  # enough for a micro-batch; making them takes longer than their use
_NUMBERS.flags.writeable = False


def record(
    ids: npt.NDArray[np.uint32],
    types: npt.NDArray[np.uint8],
    reads: Words,
    lengths: Sequence[int],
    target: npt.NDArray[Any],
) -> Words:
    """One feature as words.

    Raises:
        MtlplugError: a token's id or type has no room in its word.
    """
    if ids.max(initial=0) >> TYPE_BITS or types.max(initial=0) >> (31 - TYPE_BITS):
        raise MtlplugError(
            f"token id {ids.max()} or type {types.max()} is too large to be stored; ids go to "
            f"{2**TYPE_BITS - 1}, types to {2 ** (31 - TYPE_BITS) - 1}"
        )
    tokens = ids | types.astype(np.uint32) << TYPE_BITS
    words = np.ascontiguousarray(target).view(np.int32)
    header = (len(ids), len(reads), len(lengths), len(words))
    return np.concatenate([header, tokens, reads, lengths, words], dtype=np.int32, casting="unsafe")


class Records:
    """Records laid end to end, in an order of their own.

    Args:
        words_W: the records.
        starts_B: where each begins.

    Attributes:
        tokens_B, reads_B, sequences_B: how many of them each feature has.
    """

    def __init__(self, words_W: Words, starts_B: Integers) -> None:
        self._words_W = words_W
        # Transposed, so that each part's numbers lie together.
        header_4B = words_W[_HEADER_41 + starts_B].astype(np.int64)
        self.tokens_B, self.reads_B, self.sequences_B, self._targets_B = header_4B
        self._tokens_at_B = starts_B + HEADER
        self._reads_at_B = self._tokens_at_B + self.tokens_B
        self._sequences_at_B = self._reads_at_B + self.reads_B
        self._targets_at_B = self._sequences_at_B + self.sequences_B

    def tokens(self) -> tuple[Integers, Integers]:
        """Ids and types of all tokens. *Shape:* (T,), (T,)."""
        tokens_T = self._words_W[places(self._tokens_at_B, self.tokens_B)].astype(np.int64)
        types_T = tokens_T >> TYPE_BITS
        tokens_T &= (1 << TYPE_BITS) - 1
        return tokens_T, types_T

    def lengths(self) -> Integers:
        """Tokens of each sequence. *Shape:* (S,)."""
        if self.sequences_B.max() == 1:
            lengths_B: Integers = self.tokens_B
            return lengths_B
        return self._words_W[places(self._sequences_at_B, self.sequences_B)].astype(np.int64)

    def reads(self, order_B: Integers) -> Words:
        """What the features in this order read, counted from each one's first token. (R,)."""
        return self._words_W[places(self._reads_at_B[order_B], self.reads_B[order_B])]

    def targets(self, order_B: Integers, dtype: np.dtype[Any]) -> tuple[npt.NDArray[Any], Integers]:
        """Targets of features in this order, all of one type, end to end; their sizes (B,)."""
        words_B = self._targets_B[order_B]
        values = self._words_W[places(self._targets_at_B[order_B], words_B)].view(dtype)
        return values, words_B * 4 // dtype.itemsize


def places(starts_B: Integers, sizes_B: Integers) -> Integers:
    """The indices of ranges, laid end to end: `starts[0], starts[0] + 1, ...`."""
    ends_B = sizes_B.cumsum()
    found: Integers = (starts_B - ends_B + sizes_B).repeat(sizes_B)
    found += counting(int(ends_B[-1]))
    return found


def counting(number: int) -> Integers:
    """0, 1, ... number - 1, not to be written to: where few, a view of numbers made before."""
    return _NUMBERS[:number] if number <= len(_NUMBERS) else np.arange(number)
