"""CUDA's attention operators on the CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor


def pairs(
    starts: Tensor, window: tuple[int, int], query: Tensor, key: Tensor, scale: float
) -> Iterator[tuple[slice, Tensor]]:
    """For each sequence where it lies and its attention weights, (H, L, L)."""
    for first, last in zip(starts.tolist(), starts.tolist()[1:], strict=False):
        here = slice(first, last)
        scores = torch.einsum("ihe,jhe->hij", query[here], key[here]) * scale
        index = torch.arange(last - first)
        ahead = index - index[:, None]
        left, right = (math.inf if size < 0 else size for size in window)
        scores = scores.masked_fill((ahead < -left) | (ahead > right), -math.inf)
        yield here, scores.softmax(-1)


def varlen(starts: Tensor, window: tuple[int, int], scale: float, *streams: Tensor) -> Tensor:
    """Attention as the CUDA operators document it, written out."""
    query, key, value = streams
    out = torch.empty_like(query)
    for here, weights in pairs(starts, window, query, key, scale):
        out[here] = torch.einsum("hij,jhe->ihe", weights, value[here])
    return out


def varlen_backward(
    starts: Tensor, window: tuple[int, int], scale: float, grad: Tensor, *streams: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Its derivative, written out."""
    query, key, value = streams
    grads = tuple(torch.empty_like(part) for part in streams)
    for here, weights in pairs(starts, window, query, key, scale):
        d_weights = torch.einsum("ihe,jhe->hij", grad[here], value[here])
        d_scores = weights * (d_weights - (weights * d_weights).sum(-1, keepdim=True)) * scale
        grads[0][here] = torch.einsum("hij,jhe->ihe", d_scores, key[here])
        grads[1][here] = torch.einsum("hij,ihe->jhe", d_scores, query[here])
        grads[2][here] = torch.einsum("hij,ihe->jhe", weights, grad[here])
    return grads


def check_varlen(starts: tuple[Tensor, Tensor], longest: tuple[int, int], *flags: Any) -> None:
    """What the CUDA operators check before they run."""
    assert starts[0].dtype == starts[1].dtype == torch.int32
    assert torch.equal(*starts)
    assert longest[0] == longest[1] >= int(starts[0].diff().max())
    assert not any(flags)


@pytest.fixture
def cuda_operators() -> Iterator[list[str]]:
    """CUDA's attention operators on the CPU, and a list of the calls; autograd is torch's own."""
    calls = []

    def flash_forward(q, k, v, sq, sk, mq, mk, dropout, causal, debug, **options):
        check_varlen((sq, sk), (mq, mk), dropout, causal, debug)
        calls.append("flash")
        window = (options["window_size_left"], options["window_size_right"])
        out = varlen(sq, window, options["scale"], q, k, v)
        return out, *(q.new_empty(0) for _ in range(4))

    def flash_backward(g, q, k, v, o, lse, sq, sk, mq, mk, dropout, causal, *rng, **options):
        check_varlen((sq, sk), (mq, mk), dropout, causal)
        calls.append("flash backward")
        window = (options["window_size_left"], options["window_size_right"])
        return varlen_backward(sq, window, options["scale"], g, q, k, v)

    def efficient_forward(q, k, v, bias, sq, sk, mq, mk, dropout, mask, lse, *, scale):
        assert q.shape[0] == 1
        assert bias is None
        assert lse
        check_varlen((sq, sk), (mq, mk), dropout, mask)
        calls.append("efficient")
        out = varlen(sq, (-1, -1), scale, q[0], k[0], v[0])[None]
        return out, *(q.new_empty(0) for _ in range(3)), mq, mk

    def efficient_backward(
        g, q, k, v, bias, o, sq, sk, mq, mk, lse, dropout, seed, offset, mask, bias_grad, *, scale
    ):
        check_varlen((sq, sk), (mq, mk), dropout, mask, bias_grad)
        calls.append("efficient backward")
        grads = varlen_backward(sq, (-1, -1), scale, g[0], q[0], k[0], v[0])
        return *(grad[None] for grad in grads), q.new_empty(0)

    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("_flash_attention_forward", flash_forward, "CPU")
        library.impl("_flash_attention_backward", flash_backward, "CPU")
        library.impl("_efficient_attention_forward", efficient_forward, "CPU")
        library.impl("_efficient_attention_backward", efficient_backward, "CPU")
        yield calls
