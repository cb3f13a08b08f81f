"""mtlplug.model.joined: scores in one tensor and out again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_flatten

from mtlplug.model.joined import join, take_apart

ONE = torch.arange(6.0).view(2, 3)


@pytest.mark.parametrize(
    "scores",
    [
        ONE,
        [ONE, ONE[0], ONE.new_zeros(0, 4), torch.tensor(7.0)],
        {0: (ONE, [ONE.T]), "one": ONE.bool(), None: None},
        (ONE.long(), "text", ONE.double()),
    ],
)
def test_scores_come_out_as_they_went_in(scores: Any) -> None:
    """Structure, shapes and all that is no floating-point tensor are kept."""
    (before, tree), (after, same) = tree_flatten(scores), tree_flatten(take_apart(join(scores)))
    assert tree == same
    for ours, theirs in zip(after, before, strict=True):
        if isinstance(theirs, torch.Tensor):
            expected = theirs.float() if theirs.is_floating_point() else theirs
            assert (ours.dtype, ours.shape) == (expected.dtype, expected.shape)
            assert torch.equal(ours, expected)
        else:
            assert ours is theirs


def test_half_precision_becomes_float32() -> None:
    """Formats compute losses in float32 whatever the model runs in."""
    first, second = take_apart(join((ONE.bfloat16(), ONE.half())))
    assert (first.dtype, second.dtype) == (torch.float32, torch.float32)


def test_one_tensor_is_not_copied() -> None:
    """Scores of a large vocabulary pass as they are."""
    assert join([ONE]).numbers_N.data_ptr() == ONE.data_ptr()


def test_gradients_pass() -> None:
    """Each tensor gets its own gradient, zero where it is not used."""
    first, second = ONE.clone().requires_grad_(), ONE.clone().requires_grad_()
    out, _ = take_apart(join([first, second]))
    (out * ONE).sum().backward()
    assert first.grad is not None
    assert second.grad is not None
    assert torch.equal(first.grad, ONE)
    assert not second.grad.any()
