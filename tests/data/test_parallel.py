"""mtlplug.data.parallel: features of many tasks, made by several processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from mtlplug.data import parallel
from mtlplug.data.build import ROWS_BETWEEN, Builder
from mtlplug.data.parallel import Helpers, build_all, spare_cores
from mtlplug.data.tokens import Encode
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


def test_tasks_come_in_their_order_with_all_rows(tmp_path: Path) -> None:
    """Whatever order they are built in; progress ends with every task complete."""
    told: list[tuple[str, str, int]] = []
    jobs = some_jobs(3, rows=ROWS_BETWEEN + 5)
    found = build_all(builder(tmp_path), jobs, ["train"], lambda *each: told.append(each))
    assert [each.task.name for each in found] == ["t0", "t1", "t2"]
    assert all(len(each.stores["train"]) == ROWS_BETWEEN + 5 for each in found)
    assert ("t1", "train", ROWS_BETWEEN) in told
    assert {task for task, split, _ in told if not split} == {"t0", "t1", "t2"}


def test_helpers_build_what_this_process_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A helper process makes the missing stores, the same as are made here, and tells of them."""
    here = [
        each.stores["train"] for each in build_all(builder(tmp_path / "a"), some_jobs(3), ["train"])
    ]
    told: list[tuple[str, str, int]] = []
    finished = threading.Event()

    def tell(*progress: Any) -> None:
        told.append(progress)
        if {task for task, split, _ in told if not split} == {"t0", "t1", "t2"}:
            finished.set()

    monkeypatch.setattr(parallel, "PATIENCE", 0.0)
    monkeypatch.setattr(parallel, "spare_cores", lambda: 1)
    with Helpers(builder(tmp_path / "b"), some_jobs(3), ["train"], tell) as helpers:
        helpers.tell("t9", "train", 1)
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

    def tell(task: str, split: str, rows: int) -> None:
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
    """A helper that fails is silent; this process comes to the same task and names it."""
    monkeypatch.setattr(parallel, "PATIENCE", 0.0)
    monkeypatch.setattr(parallel, "spare_cores", lambda: 1)
    jobs = some_jobs(2)
    jobs[1][0].sources["train"].number = 0  # type: ignore[attr-defined]
    with pytest.raises(MtlplugError, match="task 't1'"):
        build_all(builder(tmp_path), jobs, ["train"])


def test_a_format_that_no_other_process_can_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is built here alone."""
    monkeypatch.setattr(parallel, "PATIENCE", 0.0)
    monkeypatch.setattr(parallel, "spare_cores", lambda: 1)
    jobs = some_jobs(2)

    class Local(type(jobs[0][1])):  # type: ignore[misc]
        def features(self, task: Task, rows: Any, encode: Encode) -> Iterator[Feature]:
            yield from super().features(task, rows, encode)

    found = build_all(builder(tmp_path), [(task, Local()) for task, _ in jobs], ["train"])
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
