"""Where the sequences of a packed stream lie, for kernels that work on each by itself.

Shapes: S sequences, N sequences of one run, L tokens of a sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from torch import Tensor

from mtlplug.batching.stream import TokenStream

CPU_SCORES = 1 << 18
"""Most scores of one head (N L L) computed at once on a CPU: what stays in its caches. Without
the bound, runs of 384 or 512 tokens took 1.05 to 2 times as long (fp32, AVX2)."""


@dataclass(frozen=True, eq=False)
class Plan:
    """How attention goes over a packed stream.

    Attributes:
        runs: neighbouring sequences of one length, as (sequences, tokens of each).
        starts_S1: where each sequence starts, and T at the end; int32, beside the tokens.
        longest: tokens of the longest sequence, on the host: no kernel asks the device for it.
    """

    runs: tuple[tuple[int, int], ...]
    starts_S1: Tensor
    longest: int

    @classmethod
    def of(cls, stream: TokenStream) -> Plan:
        """The plan for a stream; the fewer different lengths in a row, the fewer runs."""
        most_scores = CPU_SCORES if stream.ids_T.device.type == "cpu" else None
        runs = equal_runs(stream.lengths, most_scores)
        return cls(runs, stream.starts_S1, max(stream.lengths))

    @property
    def sizes(self) -> list[int]:
        """Tokens of each run."""
        return [sequences * length for sequences, length in self.runs]


def equal_runs(lengths: Sequence[int], most_scores: int | None) -> tuple[tuple[int, int], ...]:
    """Neighbouring sequences of one length as (sequences, length), with N L L bounded.

    >>> equal_runs([3, 3, 3, 5], most_scores=18)
    ((2, 3), (1, 3), (1, 5))
    """
    runs = []
    for length, group in groupby(lengths):
        left = sum(1 for _ in group)
        most = left if most_scores is None else max(1, most_scores // length**2)
        while left > 0:
            runs.append((min(left, most), length))
            left -= most
    return tuple(runs)
