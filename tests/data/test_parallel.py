"""mtlplug.data.parallel: features of many tasks, made by several processes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from mtlplug.data import parallel
from mtlplug.data.build import Builder
from mtlplug.data.parallel import Helpers, build_all, spare_cores
from mtlplug.data.pieces import ROWS_BETWEEN
from mtlplug.data.sources import Source
from mtlplug.data.tokens import Encode
from mtlplug.data.work import read_work, write_work
from mtlplug.errors import MtlplugError
from mtlplug.formats import Feature, Task, TaskFormat
from mtlplug.plugin_manager import load_plugins
from tests import toy

Jobs = list[tuple[Task, TaskFormat]]


def builder(cache: Path) -> Builder:
    """A builder with the toy tokenizer."""
    return Builder(toy.tokenizer(), cache, max_length=48, limit=64)


def some_jobs(number: int, rows: int = 30) -> Jobs:
    """Toy tasks of classification."""
    task_format = load_plugins().formats["C"]
    return [
        (Task(f"t{n}", "C", sources={"train": toy.Rows(f"t{n}", "C", rows)}), task_format)  # type: ignore[dict-item]
        for n in range(number)
    ]


def jobs_on_disk(folder: Path, number: int, rows: int = 30) -> Jobs:
    """The same tasks, out of files, as other processes can read them."""
    jobs = []
    for task, task_format in some_jobs(number, rows):
        path = folder / f"{task.name}.jsonl"
        made = task.sources["train"].rows()
        path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
        jobs.append((replace(task, sources={"train": Source(path=path)}), task_format))
    return jobs


def test_tasks_come_in_their_order_with_all_rows(tmp_path: Path) -> None:
    """Whatever order they are built in; progress ends with every task complete."""
    told: list[tuple[str, str, int, int | None]] = []
    jobs = some_jobs(3, rows=ROWS_BETWEEN + 5)
    found = build_all(builder(tmp_path), jobs, ["train"], lambda *each: told.append(each))
    assert [each.task.name for each in found] == ["t0", "t1", "t2"]
    assert all(len(each.stores["train"]) == ROWS_BETWEEN + 5 for each in found)
    # Read twice: for the labels, then for features, when their number is known.
    assert ("t1", "train", ROWS_BETWEEN, None) in told
    assert ("t1", "train", ROWS_BETWEEN, ROWS_BETWEEN + 5) in told
    assert {task for task, split, *_ in told if not split} == {"t0", "t1", "t2"}


def test_helpers_build_what_this_process_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A helper process makes the missing stores, the same as are made here, and tells of them."""
    jobs = jobs_on_disk(tmp_path, 3)
    here = [each.stores["train"] for each in build_all(builder(tmp_path / "a"), jobs, ["train"])]
    told: list[tuple[str, str, int, int | None]] = []
    finished = threading.Event()

    def tell(*progress: Any) -> None:
        told.append(progress)
        if {task for task, split, *_ in told if not split} == {"t0", "t1", "t2"}:
            finished.set()

    monkeypatch.setattr(parallel, "PATIENCE", 0.0)
    monkeypatch.setattr(parallel, "spare_cores", lambda: 1)
    with Helpers(builder(tmp_path / "b"), jobs, ["train"], tell) as helpers:
        helpers.tell("t9", "train", 1, None)
        assert finished.wait(120), told
    for store in here:
        other = tmp_path / "b" / "features" / store.folder.name
        for file in store.folder.iterdir():
            assert (other / file.name).read_bytes() == file.read_bytes()


def test_a_task_that_another_process_makes_is_left_for_last(tmp_path: Path) -> None:
    """The others are made meanwhile; then it is waited for."""
    jobs = some_jobs(3)
    folder = build_all(builder(tmp_path), jobs, ["train"])[0].stores["train"].folder
    lock = FileLock(folder.with_name(folder.name + ".lock"))
    told: list[str] = []
    others = threading.Event()

    def tell(task: str, split: str, rows: int, total: int | None) -> None:
        told.append(task)
        if len(told) == 2:
            others.set()

    with lock:
        thread = threading.Thread(target=build_all, args=[builder(tmp_path), jobs, ["train"], tell])
        thread.start()
        assert others.wait(60)
        assert told == ["t1", "t2"]
    thread.join(60)
    assert told == ["t1", "t2", "t0"]


def test_a_fault_is_told_although_helpers_meet_it_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A helper that fails is silent; this process comes to the same task and says it."""
    monkeypatch.setattr(parallel, "PATIENCE", 0.0)
    monkeypatch.setattr(parallel, "spare_cores", lambda: 1)
    jobs = jobs_on_disk(tmp_path, 2)
    (tmp_path / "t1.jsonl").write_text("")
    with pytest.raises(MtlplugError, match=r"t1.jsonl has no rows"):
        build_all(builder(tmp_path / "cache"), jobs, ["train"])


def test_a_helper_is_told_everything(tmp_path: Path) -> None:
    """Builder, tasks with their sources, and splits are the same at the other end of JSON."""
    installed = load_plugins().formats
    source = Source(
        path=tmp_path / "täg \N{RIGHT-TO-LEFT OVERRIDE}.tsv",
        columns={"text": ["a", 1], "label": -1},
        only={"kind": "x"},
        part="first 4/5 by a seed 3",
        encoding="cp1252",
    )
    task = Task(
        "t", "C", {"train": source, "extra": Source(dataset="some/one", revision="main")},
        labels=("no", "yes"), options={"max_length": 32}, metric="f1", role="target", weight=0.5,
    )  # fmt: skip
    told = write_work(replace(builder(tmp_path), max_rows=7), [(task, installed["C"])], ["train"])
    assert told is not None
    there, jobs, splits = read_work(told, installed)
    assert (jobs, splits) == ([(task, installed["C"])], ["train"])
    assert (there.cache, there.max_length, there.limit, there.max_rows) == (tmp_path, 48, 64, 7)
    assert not there.wait
    assert Encode(there.tokenizer, 48)._json == Encode(toy.tokenizer(), 48)._json
    assert read_work(told, {"C": installed["SL"]})[1] == []  # another format of the same code


def test_what_json_cannot_tell_is_built_here(tmp_path: Path) -> None:
    """Sources that are made up, and values of TOML that JSON lacks, get no helpers."""
    assert write_work(builder(tmp_path), some_jobs(1), ["train"]) is None
    ((task, task_format),) = jobs_on_disk(tmp_path, 1)
    assert write_work(builder(tmp_path), [(task, task_format)], ["train"]) is not None
    dated = replace(task, options={"since": date(2020, 1, 1)})
    assert write_work(builder(tmp_path), [(dated, task_format)], ["train"]) is None


def test_a_format_that_no_other_process_can_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is built here alone."""
    monkeypatch.setattr(parallel, "PATIENCE", 0.0)
    monkeypatch.setattr(parallel, "spare_cores", lambda: 1)
    jobs = jobs_on_disk(tmp_path, 2)

    class Local(type(jobs[0][1])):  # type: ignore[misc]
        def features(self, task: Task, rows: Any, encode: Encode) -> Iterator[Feature]:
            yield from super().features(task, rows, encode)

    cache = tmp_path / "cache"
    found = build_all(builder(cache), [(task, Local()) for task, _ in jobs], ["train"])
    assert [len(each.stores["train"]) for each in found] == [30, 30]


def test_ranks_of_a_host_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes its share, and one core of it is its own."""
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _: set(range(16)))
    for name in ("LOCAL_WORLD_SIZE", "LOCAL_SIZE", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert spare_cores() == 15
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert spare_cores() == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "32")
    assert spare_cores() == -1
