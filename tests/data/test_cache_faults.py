"""Storing features on a disk that is full, cannot be written, or was cut off from its power."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from filelock import FileLock

from mtlplug.data.store import FeatureStore
from tests import small_suite
from tests.small_suite import command

FILES = ["records.bin", "starts.bin", "sequence_starts.bin", "references.bin", "meta.json"]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """The small suite."""
    return small_suite.write(tmp_path)


def store(suite: Path, cache: Path | None = None) -> Any:
    """`mtlplug tasks`, which stores all splits."""
    return command("tasks", "--suite", suite, "--cache", cache or suite.parent / "cache")


def sentence(result: Any) -> str:
    """What a command that must fail says."""
    assert result.exit_code == 2, result.output + repr(result.exception)
    (line,) = result.stderr.splitlines()
    return str(line)


def full(monkeypatch: pytest.MonkeyPatch, chosen: Callable[[Path], bool]) -> None:
    """Open these files on a device without room: the kernel refuses what is written out."""
    whole = Path.open

    def opened(path: Path, mode: str = "r", *given: Any, **more: Any) -> IO[Any]:
        return whole(
            Path("/dev/full") if "w" in mode and chosen(path) else path, mode, *given, **more
        )

    monkeypatch.setattr(Path, "open", opened)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
@pytest.mark.parametrize("name", FILES)
def test_a_full_disk(suite: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whichever file finds no room: one sentence, no half store, and whole stores the next time."""
    with monkeypatch.context() as patch:
        full(patch, lambda path: path.name == name and "valid" in str(path.parent))
        line = sentence(store(suite))
    assert "task '" in line
    assert "cannot be written (No space left on device)" in line
    assert "make room, or choose another with --cache" in line
    assert not list(suite.parent.rglob("*.tmp"))
    assert store(suite).exit_code == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_for_facts(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is where the first file of a task, its facts, finds no room."""
    with monkeypatch.context() as patch:
        full(patch, lambda path: path.parent.name == "facts")
        assert "No space left on device" in sentence(store(suite))
    assert store(suite).exit_code == 0


def test_a_cache_that_cannot_be_made(suite: Path) -> None:
    """A folder below a file is refused with its name and the option."""
    line = sentence(store(suite, suite / "cache"))
    assert f"cache folder {suite}" in line
    assert "--cache" in line


@pytest.mark.parametrize(
    "error", [OSError(errno.EROFS, "Read-only file system"), NotImplementedError("no locks")]
)
def test_a_cache_that_is_read_only(
    suite: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Where no lock can be had the sentence says why."""

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(FileLock, "acquire", refuse)
    line = sentence(store(suite))
    assert f"cannot be written ({getattr(error, 'strerror', error)})" in line
    assert "--cache" in line


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("left", [0, 0.5])
def test_a_store_that_lost_its_end(suite: Path, name: str, left: float) -> None:
    """After a power cut files may be short: the store is refused by name, not read wrong."""
    assert store(suite).exit_code == 0
    (path,) = suite.parent.glob(f"cache/features/spans-valid-*/{name}")
    content = path.read_bytes()
    path.write_bytes(content[: 8 * int(len(content) * left / 8)])
    line = sentence(store(suite))
    assert f"stored features {path.parent} are damaged" in line
    assert "remove the folder" in line
    path.write_bytes(content)
    assert len(FeatureStore(path.parent)) == 8


def test_facts_that_lost_their_end(suite: Path) -> None:
    """So are facts."""
    assert store(suite).exit_code == 0
    path = next(suite.parent.glob("cache/facts/*.json"))
    path.write_text("{")
    assert f"{path} is damaged; remove it" in sentence(store(suite))
