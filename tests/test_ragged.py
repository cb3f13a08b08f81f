"""mtlplug.ragged: rows of features of different lengths."""

from __future__ import annotations

import torch

from mtlplug.ragged import (
    Splits,
    log_softmax_per_feature,
    mean_per_feature,
    split,
    sum_per_feature,
)

SPLITS = Splits.of([3, 0, 1, 2])


def test_split_gives_each_feature_its_rows() -> None:
    """Rows come back in order, none for an empty feature."""
    parts = split(torch.arange(6), SPLITS)
    assert [part.tolist() for part in parts] == [[0, 1, 2], [], [3], [4, 5]]
    assert SPLITS.starts_B.tolist() == [0, 3, 3, 4]


def test_sum_per_feature_equals_a_loop() -> None:
    """Sums equal those of each feature's rows alone."""
    values = torch.randn(6, 3)
    expected = torch.stack([part.sum(0) for part in split(values, SPLITS)])
    torch.testing.assert_close(sum_per_feature(values, SPLITS), expected)


def test_mean_is_over_counted_rows_and_zero_where_none_is() -> None:
    """Rows not counted do not dilute the mean; a feature without any has zero, not NaN."""
    values = torch.tensor([1.0, 2.0, 6.0, 5.0, 7.0, 9.0])
    counted = torch.tensor([True, False, True, False, True, True])
    assert mean_per_feature(values, SPLITS, counted).tolist() == [3.5, 0.0, 0.0, 8.0]


def test_log_softmax_per_feature_equals_a_loop_with_its_gradient() -> None:
    """Values and gradients equal torch's log softmax on each feature alone."""
    values = (torch.randn(6, 2) * 30).requires_grad_()
    weights = torch.randn(6, 2)
    ours = log_softmax_per_feature(values, SPLITS)
    theirs = torch.cat([part.log_softmax(0) for part in split(values, SPLITS)])
    torch.testing.assert_close(ours, theirs)
    (mine,) = torch.autograd.grad((ours * weights).sum(), values)
    (reference,) = torch.autograd.grad((theirs * weights).sum(), values)
    torch.testing.assert_close(mine, reference)
