"""mtlplug.training.ranks: which process has ended, as another one sees it."""

from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mtlplug.training import ranks
from mtlplug.training.ranks import COMPUTING, Ranks
from mtlplug.world import World


def test_who_is_gone(tmp_path: Path) -> None:
    """Who has ended, whether its launcher has noticed or not; elsewhere it is not known."""
    mine = Ranks(tmp_path, World(0, 2, torch.device("cpu")), 120.0)._mine()
    assert not mine.gone
    launched = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    other = dataclasses.replace(mine, rank=1, process=launched.pid)
    assert not other.gone
    launched.kill()
    while not other.gone:  # nobody has waited for it
        pass
    launched.communicate()
    assert other.gone
    assert not dataclasses.replace(other, host="elsewhere").gone
    assert not dataclasses.replace(other, space="of a container").gone


def test_what_was_suspended_was_not_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that a scheduler stopped for longer than the limit goes on; one that hangs does not."""
    world = World(0, 2, torch.device("cpu"))
    watcher, other = Ranks(tmp_path, world, 60.0), Ranks(tmp_path, replace(world, rank=1), 60.0)
    for each in (watcher, other):
        each.at(COMPUTING, 3)
        each._tell()
    ended: list[str] = []
    monkeypatch.setattr(watcher, "_end", ended.append)
    clock = [1000.0, 1001.0]
    monkeypatch.setattr(ranks.time, "monotonic", lambda: clock[-1])
    watcher.at(COMPUTING)

    def look(seconds: float) -> bool:
        """The thread's next look, so much later."""
        clock.append(clock[-1] + seconds)
        watcher._look(clock[-2])
        return bool(ended)

    assert not look(1.0)
    assert not look(3600.0)
    assert not look(1.0)
    assert not any(look(1.0) for _ in range(57))
    assert any(look(1.0) for _ in range(5))
    assert "rank 1 (process" in ended[0]
    assert "(--hang-seconds)" in ended[0]


def test_a_full_disk_is_no_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank that cannot write what it does still says that it lives."""
    world = World(0, 2, torch.device("cpu"))
    watcher, other = Ranks(tmp_path, world, 60.0), Ranks(tmp_path, replace(world, rank=1), 60.0)
    other._tell()
    os.utime(tmp_path / "rank-1.json", (1.0, 1.0))
    (before,) = watcher._others()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            other._tell()
    (after,) = watcher._others()
    assert after.told > before.told
    (tmp_path / "rank-1.json").write_text("{")
    assert watcher._others() == []


def full(*_: object, **__: object) -> None:
    """A disk without room."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
