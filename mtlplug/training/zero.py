"""A step of DeepSpeed's ZeRO 1 and 2 without its detours.

DeepSpeed 0.19.8 reduces gradients on one rank as on many (flattened, sent, copied back), reads
them all in search of an overflow that their norm would show, copies each to float64 for this
norm, multiplies them by the clipping factor, and has the host wait for the device three times.
For a small encoder, half of whose weights are embeddings, that costs several times what AdamW
costs. The gradient, the optimizer's state and its checkpoints stay as they are.

Shapes: P parameters of this rank's partition.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from deepspeed import DeepSpeedEngine
from deepspeed import comm as dist
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer, GradPartitionBufferGroup
from torch import Tensor

ROW = 4096
"""Squares added in float32; the sums of rows are added in float64."""


class LightStep:
    """Takes the place of some methods of an engine's optimizer.

    ZeRO 3, offloading and ZenFlow keep theirs; ZeRO 0 on one rank goes without its reduction.

    Args:
        engine: as `deepspeed.initialize` made it.
        ranks: processes that share the optimizer.
    """

    def __init__(self, engine: DeepSpeedEngine, ranks: int) -> None:
        self._zero = zero = engine.optimizer
        self._ranks = ranks
        self._skipped = torch.zeros((), device=engine.device)
        self._fused = False
        if engine.zero_optimization_stage() == 0 and ranks == 1:
            engine.enable_backward_allreduce = False
        if type(zero) is not DeepSpeedZeroOptimizer or zero.cpu_offload:
            return
        if not zero.compute_grad_norm:  # then DeepSpeed's own search is all that finds an overflow
            return
        # The weights are views of the flat tensor that the step has just written.
        zero._update_model_bit16_weights = _keep
        if ranks == 1:
            zero.buffered_reduce_fallback = _keep
            if not zero.partition_gradients:
                zero.reduce_gradients = self._gather
        zero.get_grad_norm_direct = self._norm
        zero.unscale_and_clip_grads = self._clip
        if zero.optimizer.defaults.get("fused"):
            self._fused = True
            zero.optimizer.found_inf = torch.zeros((), device=engine.device)
        # In bf16 DeepSpeed's search is all that keeps another optimizer from a step into NaN.
        zero.check_grad_overflow &= zero.dtype == torch.bfloat16 and not self._fused

    def finish(self) -> None:
        """Call after a step: counts those that the fused optimizer left out."""
        if self._fused:
            self._skipped += self._zero.optimizer.found_inf

    def take_skipped(self) -> int:
        """Steps left out since the last call, beside those DeepSpeed counts."""
        skipped = int(self._skipped)
        self._skipped.zero_()
        return skipped

    def _gather(self, **_: Any) -> None:
        """One rank's gradients are where they were added up."""
        self._zero.overlapping_partition_gradients_reduce_epilogue()

    def _norm(self, gradients: Any, params: Sequence[Tensor], norm_type: float = 2) -> Tensor:
        """The 2-norm over all ranks, not finite where a gradient is not.

        Leaves the partition's gradient as one float32 tensor, which the step would make later
        out of the same pieces, by a copy in half precision.
        """
        flat_P = getattr(gradients, "flat_partition", None)
        if flat_P is None or flat_P.dtype != torch.float32:
            pieces = [gradient.detach().reshape(-1) for gradient in gradients]
            flat_P = pieces[0].new_empty(sum(map(len, pieces)), dtype=torch.float32)
            torch.cat(pieces, out=flat_P)
            group = next(i for i, own in self._zero.averaged_gradients.items() if own is gradients)
            self._zero.averaged_gradients[group] = GradPartitionBufferGroup([flat_P], flat_P)
        total = square_sum(flat_P)
        if self._ranks > 1:
            dist.all_reduce(total, group=self._zero.dp_process_group)
        norm: Tensor = total.sqrt().float()
        return norm

    def _clip(self, gradients: Iterable[Tensor], norm: Tensor) -> None:
        """Undo the loss scale and clip to DeepSpeed's formula.

        A fused optimizer divides while it reads the gradient, and leaves weights and state as
        they are where the norm is not finite; only in bf16 is it called with such a norm.
        """
        scale = torch.full_like(norm, self._zero.loss_scale)
        if self._zero.clip_grad > 0:
            scale *= torch.clamp((norm / scale + 1e-6) / self._zero.clip_grad, min=1.0)
        if self._fused:
            self._zero.optimizer.grad_scale = scale
            self._zero.optimizer.found_inf = (~torch.isfinite(norm)).float()
        else:
            for gradient in gradients:
                gradient.mul_(1.0 / scale)


def square_sum(numbers_P: Tensor) -> Tensor:
    """The sum of squares, float64, 0-dimensional, to a part in a million at float32's cost."""
    whole = len(numbers_P) // ROW * ROW
    rows = torch.linalg.vector_norm(numbers_P[:whole].view(-1, ROW), dim=-1)
    rest = torch.linalg.vector_norm(numbers_P[whole:])
    total: Tensor = rows.double().square().sum() + rest.double().square()
    return total


def _keep(*_: Any, **__: Any) -> None:
    """The mean over one rank is this rank's gradient."""
