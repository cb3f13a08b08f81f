"""Attention inside each sequence of a packed stream, for transformers' attention interface.

A model whose attention implementation is `NAME` runs over one long row of tokens, `(1, T)`.
Everything but attention treats tokens one by one; attention is computed here, each sequence by
itself, so no mask over T x T tokens exists. Importing this module registers the function.

Shapes: T packed tokens, H attention heads, E width of a head.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface

from mtlplug.model.kernels import attend
from mtlplug.model.plan import Plan

NAME = "mtlplug_packed"
"""The attention implementation's name; never written to a saved model."""


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed_plan: Plan | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of every token to the tokens of its own sequence.

    Args:
        module: the calling layer, not used.
        query: queries over the whole stream; key and value have the same shape.
        key: keys.
        value: values.
        attention_mask: None: the plan says who sees whom.
        packed_plan: where the sequences lie; the model's `forward` hands it through.
        scaling: factor on the scores; by default 1 / sqrt(E).
        dropout: probability to drop a weight; zero outside training.
        sliding_window: tokens see each other at distances below this; None: at all.

    *Shape:* (1, H, T, E) -> (1, T, H, E). The second value, attention weights, is None.

    Raises:
        ValueError: the model was called without a plan, or with a mask.
    """
    if packed_plan is None or attention_mask is not None:
        raise ValueError(
            f"a model with the attention implementation '{NAME}' runs inside Encoder only; save "
            "and load it, or call set_attn_implementation('sdpa'), to use it otherwise"
        )
    if scaling is None:
        scaling = float(query.shape[-1] ** -0.5)
    output_THE = attend(
        query.transpose(1, 2)[0],
        key.transpose(1, 2)[0],
        value.transpose(1, 2)[0],
        packed_plan,
        scaling=scaling,
        dropout=dropout,
        window=sliding_window,
    )
    return output_THE.unsqueeze(0), None


AttentionInterface.register(NAME, packed_attention)
