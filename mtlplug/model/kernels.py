"""Kernels for attention inside each sequence of a packed stream, and which one to take.

Three kernels give the same attention:

- `flash`: torch's flash attention for sequences of different lengths, in one call; fp16 and bf16
  on CUDA, sliding windows included.
- `efficient`: torch's memory-efficient attention, in one call; fp32 on CUDA, and fp16 on devices
  that flash attention does not serve. Knows no two-sided window, and must not drop weights: over
  sequences of different lengths its forward pass drops the same weights in every head, and its
  backward pass others (github.com/pytorch/pytorch/issues/115590 says what it forgets).
- `runs`: one call for each run of sequences of equal length, anywhere.

`flash` and `efficient` are the operators that torch's own nested tensors call; they drop weights
and have a backward pass, which `torch.nn.attention.varlen` (torch 2.10) does not combine. None of
the three waits for the device: lengths are on the host.

Shapes: T packed tokens, N sequences of one run, L tokens of a sequence, H attention heads,
E width of a head.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlplug.model.plan import Plan

FLASH_WIDTH = 192
"""Widest head for flash attention: beyond, its backward pass does not run on every device."""

AMX_SHORT = 128
"""Longest sequence whose attention is written out on a CPU with AMX in half precision, where the
backward pass of torch's flash kernel takes twice as long. In fp32 (AVX2, one thread, 8 to 512
tokens) the flash kernel took 0.6 to 1.0 of the time; 1.3 only below 16 tokens in heads of 32."""

FEW_THREADS = 4
"""Most threads with which weights are dropped by random bits, which one thread draws: 1.6 ns a
weight against 7.3 ns for torch's dropout, a tenth of a step over passages of 384 tokens. With more
threads torch may draw in all of them."""


class Gpu(NamedTuple):
    """What a CUDA device can run.

    Attributes:
        capability: its compute capability, (major, minor).
        flash: whether torch was built with flash attention.
    """

    capability: tuple[int, int]
    flash: bool


def kernel_name(
    gpu: Gpu | None, dtype: torch.dtype, width: int, banded: bool, dropout: bool
) -> str:
    """The kernel to take: "flash", "efficient" or "runs".

    Args:
        gpu: None where there is no CUDA device of NVIDIA's.
        dtype: of queries, keys and values.
        width: E. Both CUDA kernels read heads in pieces of 16 bytes.
        banded: some sequence is longer than the sliding window.
        dropout: weights are dropped.
    """
    if gpu is None or width % 8 or dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return "runs"
    ampere = gpu.capability >= (8, 0)
    if dtype != torch.float32 and ampere and gpu.flash and width <= FLASH_WIDTH:
        return "flash"
    if banded or dropout or gpu.capability < (7, 0) or (dtype == torch.bfloat16 and not ampere):
        return "runs"
    return "efficient"


@functools.cache
def gpu_of(device: torch.device) -> Gpu | None:
    """What a device can run, None unless it is a CUDA device of NVIDIA's."""
    if device.type != "cuda" or torch.version.hip is not None:
        return None
    flash = bool(torch.backends.cuda.is_flash_attention_available())
    return Gpu(torch.cuda.get_device_capability(device), flash)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: Plan,
    *,
    scaling: float,
    dropout: float = 0.0,
    window: int | None = None,
) -> Tensor:
    """Attention of every token to the tokens of its own sequence.

    Args:
        query: queries of the whole stream; key and value have the same shape.
        key: keys.
        value: values.
        plan: where the sequences lie.
        scaling: factor on the scores.
        dropout: probability to drop a weight.
        window: tokens see each other at distances below this; None: at all.

    *Shape:* (T, H, E) -> (T, H, E).
    """
    if window is not None and plan.longest <= window:
        window = None
    banded, drops = window is not None, dropout > 0.0
    name = kernel_name(gpu_of(query.device), query.dtype, query.shape[-1], banded, drops)
    return KERNELS[name](query, key, value, plan, scaling, dropout, window)


def flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: Plan,
    scaling: float,
    dropout: float,
    window: int | None,
) -> Tensor:
    """Flash attention (Dao, 2023) over the whole stream. *Shape:* (T, H, E) -> (T, H, E)."""
    starts_S1, longest = plan.starts_S1, plan.longest
    reach = -1 if window is None else window - 1
    output: Tensor = torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        starts_S1,
        starts_S1,
        longest,
        longest,
        dropout,
        False,  # not causal
        False,  # no mask to look at
        scale=scaling,
        window_size_left=reach,
        window_size_right=reach,
    )[0]
    return output


def efficient(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: Plan,
    scaling: float,
    dropout: float,
    window: int | None,
) -> Tensor:
    """Memory-efficient attention (Rabe and Staats, 2021). *Shape:* (T, H, E) -> (T, H, E)."""
    assert window is None
    assert dropout == 0.0
    starts_S1, longest = plan.starts_S1, plan.longest
    output: Tensor = torch.ops.aten._efficient_attention_forward(
        query[None],
        key[None],
        value[None],
        None,  # no bias
        starts_S1,
        starts_S1,
        longest,
        longest,
        0.0,  # see above
        0,  # not causal
        True,  # keep what the backward pass needs
        scale=scaling,
    )[0]
    return output[0]


def runs(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: Plan,
    scaling: float,
    dropout: float,
    window: int | None,
) -> Tensor:
    """Attention run by run. *Shape:* (T, H, E) -> (T, H, E)."""
    # split(), not slices: the backward of a slice fills a whole stream with zeros.
    parts = (torch.split(stream_THE, plan.sizes) for stream_THE in (query, key, value))
    rows = []
    for (count, length), *run in zip(plan.runs, *parts, strict=True):
        query, key, value = (
            part.view(count, length, *part.shape[1:]).transpose(1, 2) for part in run
        )
        band_LL = _band(length, window, query.device)
        out = _attend_run(query, key, value, band_LL, scaling, dropout)
        rows.append(out.transpose(1, 2).reshape(count * length, *out.shape[1::2]))
    return torch.cat(rows)


Kernel = Callable[[Tensor, Tensor, Tensor, Plan, float, float, int | None], Tensor]
KERNELS: dict[str, Kernel] = {"flash": flash, "efficient": efficient, "runs": runs}


def _attend_run(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    band_LL: Tensor | None,
    scaling: float,
    dropout: float,
) -> Tensor:
    """Attention over N sequences of one length. *Shape:* (N, H, L, E) -> (N, H, L, E)."""
    # The CPU's flash kernel has no dropout; torch's stand-in is 1.05 to 1.3 times slower.
    written_out = dropout > 0.0 or _slow_flash(query)
    if query.device.type != "cpu" or not written_out:
        return F.scaled_dot_product_attention(query, key, value, band_LL, dropout, scale=scaling)
    scores = torch.matmul(query * scaling, key.transpose(-1, -2))
    if band_LL is not None:
        scores = scores.masked_fill(~band_LL, float("-inf"))
    weights = scores.softmax(-1)
    if dropout == 0.0:
        return torch.matmul(weights, value)
    if torch.get_num_threads() > FEW_THREADS:
        return torch.matmul(F.dropout(weights, dropout), value)
    kept, share = _kept(weights, dropout)
    return torch.matmul(weights * kept, value * (1 / share))


def _slow_flash(query: Tensor) -> bool:
    """Whether the CPU's flash kernel is the slower way for this run."""
    return query.dtype != torch.float32 and query.shape[-2] <= AMX_SHORT and _has_amx()


@functools.cache
def _has_amx() -> bool:
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return supported is not None and bool(supported())


def _kept(weights: Tensor, dropout: float) -> tuple[Tensor, float]:
    """Which weights stay, boolean, and the share that stays: 16 random bits decide on each."""
    dropped = round(dropout * 2**16)
    draws = torch.empty((weights.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    bits = draws.view(torch.int16)[: weights.numel()].view(weights.shape)
    return bits >= dropped - 2**15, 1 - dropped / 2**16


def _band(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """Which tokens of a sequence see each other, (L, L); None where all do."""
    if window is None or length <= window:
        return None
    index_L = torch.arange(length, device=device)
    return (index_L[:, None] - index_L).abs() < window
