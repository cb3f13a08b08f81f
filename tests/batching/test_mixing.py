"""mtlplug.batching.mixing: which examples make a batch."""

from __future__ import annotations

import numpy as np

from mtlplug.batching.mixing import Pool

SIZES = (300, 0, 50, 1000)


def drawn(pool: Pool, epoch: int) -> list[tuple[int, int]]:
    """All (task, feature) pairs of an epoch in order."""
    return [
        pair
        for members in pool.epoch(epoch)
        for pair in zip(members.tasks_B.tolist(), members.features_B.tolist(), strict=True)
    ]


def test_an_epoch_is_one_pass_over_the_pool() -> None:
    """Every feature of every task comes exactly once."""
    pairs = drawn(Pool(SIZES, 128, seed=1), 0)
    assert sorted(pairs) == [(task, n) for task, size in enumerate(SIZES) for n in range(size)]


def test_batches_are_full_but_for_the_last() -> None:
    """Batches hold 128 features, the last one what is left."""
    sizes = [len(members) for members in Pool(SIZES, 128, seed=1).epoch(0)]
    assert sizes == [128] * 10 + [70]
    assert Pool(SIZES, 128, seed=1).steps_per_epoch == 11


def test_the_mix_depends_on_seed_and_epoch_alone() -> None:
    """Same seed and epoch give the same order; another seed or epoch another one."""
    first = drawn(Pool(SIZES, 128, seed=1), 3)
    assert first == drawn(Pool(SIZES, 128, seed=1), 3)
    assert first != drawn(Pool(SIZES, 128, seed=1), 4)
    assert first != drawn(Pool(SIZES, 128, seed=2), 3)


def test_batches_keep_the_empirical_distribution() -> None:
    """Shares of tasks within batches follow their sizes (chi-square over an epoch)."""
    share = np.array(SIZES) / sum(SIZES)
    counts = np.array(
        [np.bincount(m.tasks_B, minlength=4) for m in Pool(SIZES, 128, seed=5).epoch(0)][:-1]
    )
    np.testing.assert_allclose(counts.mean(0) / 128, share, atol=0.02)
    # Hypergeometric draws: batches differ, unlike batches of one task each.
    assert (counts[:, 3] < 128).all()
    assert (counts[:, 3] > 64).all()
