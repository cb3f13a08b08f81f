"""A head's scores as one tensor, in which form ZeRO-3 sees them leave the head.

Shapes: N numbers of all scores of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten


@dataclass(frozen=True)
class Form:
    """How scores are put together again.

    Attributes:
        tree: the tuples, lists and dicts they were in.
        shapes: of each floating-point tensor among the leaves; None for any other leaf.
        others: the leaves, None where they are floating-point tensors.
    """

    tree: TreeSpec
    shapes: Sequence[torch.Size | None]
    others: Sequence[Any]


class Joined(NamedTuple):
    """The scores of a head.

    Attributes:
        numbers_N: all floating-point scores end to end, float32.
        form: not a tensor, nor anything that DeepSpeed looks into for one.
    """

    numbers_N: Tensor
    form: Form


def join(scores: Any) -> Joined:
    """Lay all floating-point scores end to end; nothing is copied where they are one tensor."""
    leaves, tree = tree_flatten(scores)
    numbers = [leaf if is_floating(leaf) else None for leaf in leaves]
    flat = [leaf.float().flatten() for leaf in numbers if leaf is not None]
    form = Form(
        tree,
        [None if leaf is None else leaf.shape for leaf in numbers],
        [None if is_floating(leaf) else leaf for leaf in leaves],
    )
    return Joined(flat[0] if len(flat) == 1 else torch.cat(flat), form)


def take_apart(joined: Joined) -> Any:
    """The scores that were joined, as the head gave them, but float32."""
    form = joined.form
    sizes = [shape.numel() for shape in form.shapes if shape is not None]
    flat = iter(torch.split(joined.numbers_N, sizes))
    leaves = [
        other if shape is None else next(flat).view(shape)
        for shape, other in zip(form.shapes, form.others, strict=True)
    ]
    return tree_unflatten(leaves, form.tree)


def is_floating(leaf: Any) -> bool:
    """Whether a leaf of scores is a floating-point tensor."""
    return isinstance(leaf, Tensor) and leaf.is_floating_point()
