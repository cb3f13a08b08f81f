"""mtlplug.data.pieces: one split, made piece by piece by several builders at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import Timeout

from mtlplug.data import pieces
from mtlplug.data.build import Builder
from mtlplug.data.store import FeatureStore
from mtlplug.data.tokens import Encode
from mtlplug.errors import MtlplugError
from mtlplug.formats import Feature, Row, Task, TaskFormat
from mtlplug.plugin_manager import load_plugins
from tests import toy

ROWS = 100
OPTIONS = {"max_length": 16, "stride": 4, "max_question": 4}


class Faulty(toy.Rows):
    """Rows of which some have an id that others have, and some a fault."""

    def __init__(self, make: str, bad: tuple[int, ...] = (), number: int = ROWS) -> None:
        super().__init__(f"split {bad}", make, number)
        self.bad = bad

    def rows(self) -> list[Row]:
        """The rows."""
        rows = super().rows()
        for number in (3, 40, 77):
            rows[number]["id"] = "again"
        for number in self.bad:
            rows[number] = Row({"text": 3, "label": "1"}, where=f"row {number}")
        return rows


def job(make: str, source: toy.Rows) -> tuple[Task, TaskFormat]:
    """A toy task with one split."""
    task_format = load_plugins().formats[make]
    options = {**task_format.options, **(OPTIONS if make == "QA" else {})}
    return Task("t", make, {"valid": source}, options=options), task_format  # type: ignore[dict-item]


def built(
    cache: Path, monkeypatch: pytest.MonkeyPatch, make: str, piece: int, workers: int = 1,
    source: toy.Rows | None = None,
) -> FeatureStore:  # fmt: skip
    """The store, made in pieces of so many rows by so many builders at once."""
    monkeypatch.setattr(pieces, "PIECE", piece)
    task, task_format = job(make, source or Faulty(make))
    builder = Builder(toy.tokenizer(), cache, max_length=16, limit=64)
    together = threading.Barrier(workers)
    threads = []
    for _ in range(workers - 1):

        def help_out() -> None:
            together.wait()
            with suppress(Timeout, MtlplugError):
                replace(builder, wait=False).build(task, task_format, ["valid"])

        threads.append(threading.Thread(target=help_out))
        threads[-1].start()
    together.wait()
    try:
        store = builder.build(task, task_format, ["valid"]).stores["valid"]
    finally:
        for thread in threads:
            thread.join()
    assert [each.name for each in (cache / "features").iterdir() if each.is_dir()] == [
        store.folder.name
    ]
    return store


@pytest.mark.parametrize("make", ["SL", "C", "QA"])
def test_the_same_bytes_and_counts_however_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: str
) -> None:
    """In one piece, in pieces of several sizes, by one builder or three."""
    whole = built(tmp_path / "whole", monkeypatch, make, 1000)
    assert whole.meta["rows"] == ROWS
    if make == "QA":
        assert whole.meta["counts"]["ids more than once"] == 2
    for name, piece, workers in (("one", 16, 1), ("three", 7, 3), ("even", 50, 3)):
        other = built(tmp_path / name, monkeypatch, make, piece, workers)
        assert other.meta == whole.meta
        files = {file.name for file in whole.folder.iterdir()} - {"meta.json"}
        assert {file.name for file in other.folder.iterdir()} == files | {"meta.json"}
        for file in files:
            assert (other.folder / file).read_bytes() == (whole.folder / file).read_bytes(), file


@pytest.mark.parametrize("workers", [1, 3])
def test_the_first_fault_is_told_whoever_meets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """As one process would tell it; nothing is left."""
    source = Faulty("C", bad=(33, 71, 99))
    with pytest.raises(MtlplugError, match=r"row 33: column 'text' holds 3"):
        built(tmp_path, monkeypatch, "C", 8, workers, source)
    assert not [each for each in (tmp_path / "features").iterdir() if each.is_dir()]


def test_a_helper_makes_what_the_holder_of_the_lock_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one builder is in its first piece another makes the rest; then they are joined."""
    monkeypatch.setattr(pieces, "PIECE", 10)
    task, task_format = job("C", Faulty("C"))
    inside, helped = threading.Event(), threading.Event()
    made: dict[str, list[int]] = {"holder": [], "helper": []}

    class Watched(type(task_format)):  # type: ignore[misc]
        def features(self, task: Task, rows: Any, encode: Encode) -> Iterator[Feature]:
            name = threading.current_thread().name
            made[name].append(encode.first_row)
            if name == "holder":
                inside.set()
                assert helped.wait(60)
            yield from super().features(task, rows, encode)

    builder = Builder(toy.tokenizer(), tmp_path, max_length=16, limit=64)
    found = []

    def hold() -> None:
        found.append(builder.build(task, Watched(), ["valid"]).stores["valid"])

    holder = threading.Thread(target=hold, name="holder")
    holder.start()
    assert inside.wait(60)
    monkeypatch.setattr(threading.current_thread(), "name", "helper")
    with pytest.raises(Timeout):
        replace(builder, wait=False).build(task, Watched(), ["valid"])
    helped.set()
    holder.join()
    assert made == {"holder": [0], "helper": list(range(10, ROWS, 10))}
    assert len(found[0]) == ROWS


def test_what_a_killed_build_finished_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole pieces count; half ones are made again."""
    monkeypatch.setattr(pieces, "PIECE", 10)
    task, task_format = job("C", Faulty("C"))
    builder = Builder(toy.tokenizer(), tmp_path, max_length=16, limit=64)
    asked = []

    class Watched(type(task_format)):  # type: ignore[misc]
        def features(self, task: Task, rows: Any, encode: Encode) -> Iterator[Feature]:
            asked.append(encode.first_row)
            yield from super().features(task, rows, encode)

    def die(*_: object) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(pieces.Making, "_join", die)
        killed.setattr(pieces.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            builder.build(task, Watched(), ["valid"])
    (unfinished,) = (tmp_path / "features").glob("*.tmp")
    (unfinished / "4").rename(unfinished / "4.half")
    assert asked == list(range(0, ROWS, 10))
    asked.clear()
    assert len(builder.build(task, Watched(), ["valid"]).stores["valid"]) == ROWS
    assert asked == [40]
    assert not unfinished.exists()


def test_a_format_that_looks_at_other_rows_gets_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it says that its rows are independent."""
    monkeypatch.setattr(pieces, "PIECE", 10)
    task, task_format = job("C", Faulty("C"))
    calls = []

    class Looking(type(task_format)):  # type: ignore[misc]
        independent_rows = False

        def features(self, task: Task, rows: Any, encode: Encode) -> Iterator[Feature]:
            calls.append(len(rows := list(rows)))
            yield from super().features(task, rows, encode)

    Builder(toy.tokenizer(), tmp_path, 16, 64).build(task, Looking(), ["valid"])
    assert calls == [ROWS]
    assert TaskFormat.independent_rows is False


def test_pieces_whose_targets_differ_in_type_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As within one piece."""
    monkeypatch.setattr(pieces, "PIECE", 50)
    task, task_format = job("C", Faulty("C"))

    class Mixed(type(task_format)):  # type: ignore[misc]
        def features(self, task: Task, rows: Any, encode: Encode) -> Iterator[Feature]:
            for feature in super().features(task, rows, encode):
                yield replace(feature, target=[0.5 if encode.first_row else 1])

    with pytest.raises(MtlplugError, match="float32 targets after int64 ones"):
        Builder(toy.tokenizer(), tmp_path, 16, 64).build(task, Mixed(), ["valid"])
