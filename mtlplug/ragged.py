"""Rows of features of different lengths, laid end to end, without padding.

Shapes: R rows, B features.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Splits:
    """How rows laid end to end belong to features.

    Attributes:
        sizes: rows of each feature, on the host, so that nothing waits for the device.
        index_R: number of the feature each row belongs to, beside the rows.
        starts_B: the first row of each feature, beside the rows.
    """

    sizes: tuple[int, ...]
    index_R: Tensor
    starts_B: Tensor

    @classmethod
    def of(cls, sizes: Iterable[int]) -> Splits:
        """Splits on the CPU from the number of rows of each feature."""
        sizes = tuple(int(size) for size in sizes)
        sizes_B = torch.tensor(sizes, dtype=torch.long)
        index_R = torch.repeat_interleave(torch.arange(len(sizes)), sizes_B)
        return cls(sizes, index_R, torch.cumsum(sizes_B, 0) - sizes_B)

    def to(self, device: torch.device) -> Splits:
        """The same splits on another device, copied without waiting."""
        return Splits(
            self.sizes,
            self.index_R.to(device, non_blocking=True),
            self.starts_B.to(device, non_blocking=True),
        )

    def __len__(self) -> int:
        return len(self.sizes)


def row_counts(splits: Splits) -> Tensor:
    """Rows of each feature, (B,), beside the rows: the device is not waited for."""
    total = splits.starts_B.new_full((1,), len(splits.index_R))
    return torch.diff(splits.starts_B, append=total)


def split(values_R: Tensor, splits: Splits) -> tuple[Tensor, ...]:
    """The rows of each feature: B tensors of `sizes[b]` rows."""
    return torch.split(values_R, list(splits.sizes))


def sum_per_feature(values_R: Tensor, splits: Splits) -> Tensor:
    """Sum over the rows of each feature. *Shape:* (R, ...) -> (B, ...)."""
    zeros = values_R.new_zeros((len(splits), *values_R.shape[1:]))
    return zeros.index_add(0, splits.index_R, values_R)


def mean_per_feature(values_R: Tensor, splits: Splits, counted_R: Tensor | None = None) -> Tensor:
    """Mean over the counted rows of each feature; zero, not NaN, where none is counted.

    *Shape:* values (R,), counted (R,) boolean -> (B,).
    """
    if counted_R is None:
        counted_R = torch.ones_like(values_R, dtype=torch.bool)
    total_B = sum_per_feature(values_R * counted_R, splits)
    count_B = sum_per_feature(counted_R.to(values_R.dtype), splits)
    return total_B / count_B.clamp(min=1)


def log_softmax_per_feature(values_R: Tensor, splits: Splits) -> Tensor:
    """Log softmax over the rows of each feature. *Shape:* (R, ...) -> (R, ...)."""
    index_R = splits.index_R
    most_B = values_R.new_full((len(splits), *values_R.shape[1:]), float("-inf"))
    index = index_R.view(-1, *[1] * (values_R.dim() - 1)).expand_as(values_R)
    # The maximum only keeps exp() in range: its gradient cancels.
    most_B = most_B.scatter_reduce(0, index, values_R.detach(), "amax")
    shifted_R = values_R - most_B[index_R]
    norm_B = sum_per_feature(shifted_R.exp(), splits).log()
    return shifted_R - norm_B[index_R]
