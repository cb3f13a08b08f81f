"""mtlplug.training.ranks: which process has ended, as another one sees it."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import torch

from mtlplug.training.ranks import Ranks
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
