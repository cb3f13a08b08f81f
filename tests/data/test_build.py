"""mtlplug.data.build and store: features on disk, made once."""

from __future__ import annotations

import dataclasses
import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock, Timeout

from mtlplug.batching.mixing import Pool
from mtlplug.batching.packing import Packer
from mtlplug.data.build import Builder
from mtlplug.data.store import FeatureStore, FeatureWriter
from mtlplug.data.tokens import Encode
from mtlplug.errors import MtlplugError
from mtlplug.formats import Feature, Row, Task, TaskFormat
from mtlplug.plugin_manager import load_plugins
from tests import toy


def builder(cache: Path, **changes: Any) -> Builder:
    """A builder with the toy tokenizer."""
    return dataclasses.replace(Builder(toy.tokenizer(), cache, max_length=48, limit=64), **changes)


def a_task(make: str = "SL", number: int = 40) -> tuple[Task, TaskFormat]:
    """A toy task and its format."""
    task_format = load_plugins().formats[make]
    sources = {split: toy.Rows(f"t-{split}", make, number) for split in ("train", "valid")}
    options = dict(task_format.options)
    return Task("t", make, sources=sources, options=options), task_format  # type: ignore[arg-type]


def test_a_store_gives_back_what_was_written(tmp_path: Path) -> None:
    """Tokens, reads, targets and references of every feature, several sequences included."""
    encode = Encode(toy.tokenizer(), 32)
    one, two, three = encode.texts([("w1 w2", None), ("w3", "w4 w5"), ("w6 w7 w8", None)])
    features = [
        Feature((one, two), reads=[0, len(one)], target=[1], reference={"gold": "ä"}),
        Feature((three,), reads=[], target=[], reference=None),
        Feature((three,), reads=[2, 1], target=[0, 5], reference=["x"]),
    ]
    writer = FeatureWriter(tmp_path / "store", references=True)
    for feature in features:
        writer.add(feature)
    writer.close({"rows": 3})
    store = FeatureStore(tmp_path / "store")
    assert len(store) == store.meta["features"] == 3
    for number, feature in enumerate(features):
        ids = np.concatenate([each.ids for each in feature.sequences])
        types = np.concatenate([each.types for each in feature.sequences])
        stored = store.feature(number)
        assert [part.tolist() for part in stored.tokens()] == [ids.tolist(), types.tolist()]
        assert stored.reads(np.zeros(1, int)).tolist() == list(feature.reads)
        assert store.target(number).tolist() == list(feature.target)
        assert store.reference(number) == feature.reference
        lengths = [len(each) for each in feature.sequences]
        assert stored.lengths().tolist() == lengths
    assert store.lengths_N.tolist() == [len(one) + len(two), len(three), len(three)]


def test_the_ids_of_a_store_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, in order, a few features at a time."""
    store = toy.task_data(tmp_path, "QA")[0].stores["train"]
    (whole,) = store.ids()
    assert len(whole) == store.lengths_N.sum()
    monkeypatch.setattr("mtlplug.data.store.PIECE", 7)
    pieces = list(store.ids())
    assert len(pieces) == -(-len(store) // 7)
    assert np.array_equal(np.concatenate(pieces), whole)
    first = store.feature(0).tokens()[0]
    assert np.array_equal(whole[: len(first)], first)


def test_a_format_that_learns_no_label_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head without outputs would end in an error of torch's; labels of the suite are enough."""
    task, task_format = a_task("C")
    monkeypatch.setattr(type(task_format), "prepare", lambda *_: {"labels": []})
    with pytest.raises(MtlplugError, match="made up: task 't' has no training row with a label"):
        builder(tmp_path).build(task, task_format, ["train"])
    named = dataclasses.replace(task, labels=("odd", "even"))
    monkeypatch.setattr(type(task_format), "prepare", lambda *_: {})
    assert builder(tmp_path).prepared(named, task_format).labels == ("odd", "even")


@pytest.mark.parametrize("reads", [[-1], [99]])
def test_reads_outside_the_tokens_are_refused(tmp_path: Path, reads: list[int]) -> None:
    """A format's mistake is found when features are made, not on the device."""
    (encoded,) = Encode(toy.tokenizer(), 32).texts([("w1 w2", None)])
    writer = FeatureWriter(tmp_path / "store", references=False)
    with pytest.raises(MtlplugError, match="reads positions outside its 4 tokens"):
        writer.add(Feature((encoded,), reads=reads, target=[0]))


def test_a_second_start_does_not_tokenise_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stores are found by their hash; the format is not asked again."""
    task, task_format = a_task()
    first = builder(tmp_path).build(task, task_format, ["train", "valid"])

    def fail(*_: object) -> Any:
        raise AssertionError("made again")

    monkeypatch.setattr(type(task_format), "features", fail)
    monkeypatch.setattr(type(task_format), "prepare", fail)
    again = builder(tmp_path).build(task, task_format, ["train", "valid"])
    assert again.task == first.task
    assert again.stores["train"].folder == first.stores["train"].folder


@pytest.mark.parametrize(
    "change",
    [
        {"max_length": 12},
        {"max_rows": 7},
        {"options": {"label_all_tokens": True}},
        {"rows": 41},
        {"labels": ("O", "B-X", "I-X", "B-Y", "I-Y")},
    ],
)
def test_whatever_decides_the_content_makes_another_store(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    """Length, rows, options, data and labels are part of the key."""
    task, task_format = a_task()
    first = builder(tmp_path).build(task, task_format, ["valid"])
    other, _ = a_task(number=change.pop("rows", 40))
    other = dataclasses.replace(
        other,
        options=dict(other.options) | change.pop("options", {}),
        labels=change.pop("labels", ()),
    )
    second = builder(tmp_path, **change).build(other, task_format, ["valid"])
    assert second.stores["valid"].folder != first.stores["valid"].folder


def test_a_failure_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while features are made leaves no store, and the next start makes it whole."""
    task, task_format = a_task()
    real = type(task_format).features

    def broken(self: Any, task: Task, rows: Any, encode: Encode) -> Iterator[Feature]:
        for number, feature in enumerate(real(self, task, rows, encode)):
            if number == 20:
                raise MtlplugError("row 20 is bad")
            yield feature

    monkeypatch.setattr(type(task_format), "features", broken)
    with pytest.raises(MtlplugError, match="row 20"):
        builder(tmp_path).build(task, task_format, ["train"])
    assert [path for path in (tmp_path / "features").iterdir() if path.is_dir()] == []
    monkeypatch.setattr(type(task_format), "features", real)
    assert len(builder(tmp_path).build(task, task_format, ["train"]).stores["train"]) == 40


def test_one_process_builds_and_others_wait(tmp_path: Path) -> None:
    """The lock of a store is held while it is made."""
    task, task_format = a_task()
    folder = builder(tmp_path).build(task, task_format, ["train"]).stores["train"].folder
    held: list[bool] = []

    class Watched(type(task_format)):  # type: ignore[misc]
        def features(self, task: Task, rows: Any, encode: Encode) -> Iterator[Feature]:
            unfinished = next(folder.parent.glob("*.tmp"))
            lock = FileLock(unfinished.with_name(unfinished.name.replace(".tmp", ".lock")))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                held.append(True)
            yield from super().features(task, rows, encode)

    builder(tmp_path, max_rows=9).build(task, Watched(), ["train"])
    assert held == [True]


def test_a_cap_takes_the_same_sample_in_order_each_time(tmp_path: Path) -> None:
    """Rows come from the whole file, not from its beginning, and always the same."""
    numbers = []

    class Noting(type(a_task()[1])):  # type: ignore[misc]
        def features(self, task: Task, rows: Any, encode: Encode) -> Iterator[Feature]:
            rows = list(rows)
            numbers.append([int(row.where.split()[1]) for row in rows])
            return super().features(task, rows, encode)  # type: ignore[no-any-return]

    task, _ = a_task(number=400)
    for cache in ("one", "two"):
        builder(tmp_path / cache, max_rows=50).build(task, Noting(), ["train"])
    assert numbers[0] == numbers[1] == sorted(set(numbers[0]))
    assert len(numbers[0]) == 50
    assert max(numbers[0]) > 200


@pytest.mark.parametrize(
    ("make", "row"),
    [("C", {"text": "w1", "label": None}), ("SL", {"tokens": [" "], "tags": ["O"]})],
)
def test_a_split_without_a_usable_row_is_an_error(
    tmp_path: Path, make: str, row: dict[str, Any]
) -> None:
    """The sentence tells what was counted; features of which nothing is read are none, too."""
    task, task_format = a_task(make, number=3)

    class Useless:
        place = "nowhere"

        def fingerprint(self) -> str:
            return "useless"

        def rows(self) -> Iterator[Row]:
            yield Row(row, "row 1")

    task = dataclasses.replace(task, sources={**task.sources, "test": Useless()})  # type: ignore[dict-item]
    with pytest.raises(MtlplugError, match=r"'test' of task 't' has no usable row \(1 read\)"):
        builder(tmp_path).build(task, task_format, ["test"])


def test_lengths_are_bounded_by_the_encoder(tmp_path: Path) -> None:
    """What the encoder takes bounds what a task or the run asks for."""
    task, _ = a_task()
    assert builder(tmp_path, max_length=500).length(task) == 64
    assert builder(tmp_path).length(task) == 48
    longer = dataclasses.replace(task, options={"max_length": 60})
    assert builder(tmp_path).length(longer) == 60
    with pytest.raises(MtlplugError, match="max_length 3 of task 't'"):
        builder(tmp_path, max_length=3).length(task)


def peak(work: Callable[[], object]) -> int:
    """Bytes that Python and numpy held at the most while this was done."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class Streamed(toy.Rows):
    """Rows that are made as they are asked for, like those of a file."""

    def rows(self) -> Iterator[Row]:  # type: ignore[override]
        """The rows, one by one."""
        draw = random.Random(0)
        return (self._row(draw, number) for number in range(self.number))


@pytest.mark.parametrize(
    "make", ["C", *(pytest.param(make, marks=pytest.mark.slow) for make in ("SL", "QA"))]
)
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, make: str) -> None:
    """Three times the rows take no more memory to build; a format that keeps them all does."""
    task, task_format = a_task(make)
    task = dataclasses.replace(
        task, options={**task.options, "stride": 8, "max_question": 8, "max_length": 40}
    )
    # Warm: what is imported and made once is not counted.
    builder(tmp_path).build(task, task_format, ["train"])

    class Hoarding(type(task_format)):  # type: ignore[misc]
        independent_rows = False

        def features(self, task: Task, rows: Any, encode: Encode) -> Iterator[Feature]:
            return super().features(task, list(rows), encode)  # type: ignore[no-any-return]

    def built(task_format: TaskFormat, rows: int) -> int:
        source = Streamed("many", make, rows)
        changed = dataclasses.replace(task, sources={"train": source})  # type: ignore[dict-item]
        return peak(lambda: builder(tmp_path).build(changed, task_format, ["train"]))

    few, many = built(task_format, 1000), built(task_format, 3000)
    # Of each question its id is kept, to find doubles.
    assert many < few + 2000 * (150 if make == "QA" else 30)
    assert built(Hoarding(), 3000) > few + 2000 * 300


def test_an_epoch_of_batches_holds_few_bytes_of_each_feature(tmp_path: Path) -> None:
    """What the loader keeps: place, length and order, 24 bytes a feature."""
    (encoded,) = Encode(toy.tokenizer(), 32).texts([("w1 w2 w3 w4 w5 w6", None)])
    feature = Feature((encoded,), reads=[0], target=[1])
    task_format = load_plugins().formats["C"]

    def epoch(features: int) -> int:
        writer = FeatureWriter(tmp_path / str(features), references=False)
        for _ in range(features):
            writer.add(feature)
        writer.close({})
        return peak(lambda: load(FeatureStore(tmp_path / str(features))))

    def load(store: FeatureStore) -> None:
        packer = Packer([store], [task_format], [1.0], 8192)
        for members, _ in zip(Pool([len(store)], 128, 0).epoch(0), range(20), strict=False):
            packer.pack(members, 128)

    few, many = epoch(1_000), epoch(20_000)
    assert many - few < 19_000 * 60
