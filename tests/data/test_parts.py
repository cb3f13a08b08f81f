"""Shares of a source's rows: disjoint, whole, the same everywhere, and never through a context."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pyarrow
import pytest
from file_helpers import fault, rows, write
from pyarrow import parquet

from mtlplug.data.parts import Part
from mtlplug.data.sources import Source
from mtlplug.errors import MtlplugError

QUESTIONS = [(f"context {n // 3}", n) for n in range(300)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three hundred questions, three of each context."""
    lines = [json.dumps({"context": context, "number": n}) for context, n in QUESTIONS]
    return write(tmp_path / "rows.jsonl", "\n".join(lines))


def test_two_parts_make_the_whole(file: Path) -> None:
    """Training and validation part share no context, miss no row and have the sizes asked for."""
    train = rows(file, part="first 4/5 by context")
    valid = rows(file, part="last 1/5 by context")
    assert (len(train), len(valid)) == (240, 60)
    assert not {row["context"] for row in train} & {row["context"] for row in valid}
    numbers = [row["number"] for row in train]
    assert numbers == sorted(numbers), "the file's order is kept"
    assert sorted(numbers + [row["number"] for row in valid]) == list(range(300))


def test_without_a_column_contexts_are_parted(file: Path) -> None:
    """The control: by whole rows the same contexts stand on both sides."""
    train, valid = rows(file, part="first 4/5"), rows(file, part="last 1/5")
    assert (len(train), len(valid)) == (240, 60)
    assert {row["context"] for row in train} & {row["context"] for row in valid}


def test_equal_rows_stay_together(tmp_path: Path) -> None:
    """A sentence that occurs twice is not in training and validation at once."""
    path = write(tmp_path / "rows.jsonl", "\n".join(f'{{"a": {n % 50}}}' for n in range(100)))
    train, valid = rows(path, part="first 1/2"), rows(path, part="last 1/2")
    assert len(train) == len(valid) == 50
    assert not {row["a"] for row in train} & {row["a"] for row in valid}


def test_a_draw_is_fixed(file: Path) -> None:
    """The choice is the same in every process and on every machine; a seed gives another."""
    chosen = [row["number"] for row in rows(file, part="last 1/100 by context")]
    assert chosen == [row["number"] for row in rows(file, part="last 1/100 by context seed 0")]
    assert chosen == [90, 91, 92]
    assert chosen != [row["number"] for row in rows(file, part="last 1/100 by context seed 1")]


def test_a_part_changes_the_fingerprint(file: Path) -> None:
    """Stored features of a part are not taken for those of the whole, nor of another part."""
    parts = ["", "first 4/5", "last 1/5", "last 1/5 seed 1"]
    assert len({Source(path=file, part=part).fingerprint() for part in parts}) == 4
    assert Source(path=file).fingerprint() != Source(path=file, only={"number": 1}).fingerprint()


@pytest.mark.parametrize("text", ["4/5", "first 5/5", "first 0/5", "middle 1/5", "last 1/5 of it"])
def test_wrong_part(text: str) -> None:
    """What is no share is refused, with how to write one."""
    with pytest.raises(MtlplugError, match=f"part is '{text}'; write 'first 4/5'"):
        Part.parse(text)


def test_unknown_column(file: Path) -> None:
    """A part by a column that is not there, and rows with such a value, name the columns."""
    assert "has no column 'title'; it has: context, number" in fault(file, part="last 1/5 by title")
    assert "has no column 'title'" in fault(file, only={"title": "x"})


def test_rows_without_the_column(tmp_path: Path) -> None:
    """A column that a later row lacks is None there: no row of the chosen ones, and one part."""
    path = tmp_path / "odd.jsonl"
    path.write_text('{"k": "a", "n": 1}\n{"n": 2}\n{"k": "a", "n": 3}\n')
    assert [row["n"] for row in rows(path, only={"k": "a"})] == [1, 3]
    parts = [[row["n"] for row in rows(path, part=f"{end} 1/2 by k")] for end in ("first", "last")]
    assert sorted(itertools.chain(*parts)) == [1, 2, 3]


def test_only_in_batches_without_any(tmp_path: Path) -> None:
    """Rows of arrow files come in batches; one of them may have no row of the chosen ones."""
    path = tmp_path / "two.parquet"
    parquet.write_table(pyarrow.table({"lang": ["en"] * 1500 + ["de"] * 1500}), path)
    assert len(list(rows(path, only={"lang": "de"}))) == 1500


def test_only(file: Path) -> None:
    """Rows with another value are passed over; none left is an error."""
    assert [row["number"] for row in rows(file, only={"context": "context 7"})] == [21, 22, 23]
    assert "has no rows of the chosen ones" in fault(file, only={"context": "context 777"})
