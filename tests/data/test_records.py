"""mtlplug.data.records: features as runs of words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtlplug.data.records import Records, counting, places, record
from mtlplug.errors import MtlplugError

FEATURES = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 2**24 - 1), st.integers(0, 127)), min_size=1),
        st.lists(st.integers(0, 9)),
        st.lists(st.integers(-(2**40), 2**40)),
    ),
    min_size=1,
)


def words(tokens: Any, reads: Any, target: Any, dtype: Any = np.int64) -> Any:
    """The record of a feature of one sequence."""
    ids, types = zip(*tokens, strict=True)
    return record(
        np.array(ids, np.uint32),
        np.array(types, np.uint8),
        np.array(reads, np.int32),
        [len(tokens)],
        np.array(target, dtype),
    )


@given(FEATURES, st.randoms())
def test_records_are_taken_apart_as_they_were_put_together(features: Any, random: Any) -> None:
    """Ids, types, reads and targets of every feature, in whatever order they are asked for."""
    parts = [words(*feature) for feature in features]
    sizes = [len(part) for part in parts]
    records = Records(np.concatenate(parts), np.cumsum([0, *sizes[:-1]]))
    ids, types = records.tokens()
    tokens = [token for feature in features for token in feature[0]]
    assert list(zip(ids.tolist(), types.tolist(), strict=True)) == tokens
    assert records.tokens_B.tolist() == [len(each[0]) for each in features]
    assert records.lengths().tolist() == records.tokens_B.tolist()
    order = list(range(len(features)))
    random.shuffle(order)
    order_B = np.array(order)
    assert records.reads(order_B).tolist() == [read for n in order for read in features[n][1]]
    values, sizes = records.targets(order_B, np.dtype(np.int64))
    assert values.tolist() == [value for n in order for value in features[n][2]]
    assert sizes.tolist() == [len(features[n][2]) for n in order]


def test_a_target_keeps_its_bits() -> None:
    """A float32 is one word, bit for bit."""
    target, _ = Records(words([(5, 0)], [0], [0.1, -1e30], np.float32), np.zeros(1, int)).targets(
        np.zeros(1, int), np.dtype(np.float32)
    )
    assert target.tolist() == np.array([0.1, -1e30], np.float32).tolist()


@pytest.mark.parametrize("token", [(2**24, 0), (1, 128)])
def test_a_token_without_room_is_refused(token: tuple[int, int]) -> None:
    """An id of more than 24 bits or a type of more than seven would become another token."""
    with pytest.raises(MtlplugError, match="too large to be stored"):
        words([token], [], [])


def test_places_of_ranges() -> None:
    """Indices of each range, end to end; empty ranges give none."""
    assert places(np.array([7, 2, 0]), np.array([2, 0, 3])).tolist() == [7, 8, 0, 1, 2]


def test_counting_beyond_what_is_kept() -> None:
    """From 0 however many; what is kept cannot be spoilt."""
    for number in (0, 3, 1 << 16, (1 << 16) + 1):
        assert np.array_equal(counting(number), np.arange(number))
    with pytest.raises(ValueError, match="read-only"):
        counting(3)[0] = 1
