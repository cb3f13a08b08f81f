"""mtlplug.training.extensions: a killed build must not hold up every later run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtlplug.training.extensions import VARIABLE, prepare_extensions, remove_stale_locks

BUILDS = """
import sys
from pathlib import Path
from mtlplug.training.extensions import remove_stale_locks
folder = Path(sys.argv[1])
print(remove_stale_locks(folder), flush=True)
(folder / "op").mkdir(exist_ok=True)
(folder / "op" / "lock").touch()
sys.stdin.read()
"""


def test_a_lock_goes_with_the_process_that_made_it(tmp_path: Path) -> None:
    """Left alone while that process lives, removed when it was killed."""
    builder = subprocess.Popen(
        [sys.executable, "-c", BUILDS, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert builder.stdout is not None
    assert builder.stdout.readline() == "[]\n"
    lock = tmp_path / "op" / "lock"
    while not lock.exists():
        assert builder.poll() is None
    other = [sys.executable, "-c", BUILDS, str(tmp_path)]
    beside = subprocess.run(other, input="", capture_output=True, text=True, check=True)
    assert beside.stdout == "[]\n"
    assert lock.exists()
    builder.kill()
    builder.wait()
    assert remove_stale_locks(tmp_path) == [lock]
    assert not lock.exists()


def test_the_folder_is_ours_unless_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By torch and Python version; what the user named stays, locks too; no folder, no harm."""
    mine = tmp_path / "mine"
    (mine / "op").mkdir(parents=True)
    (mine / "op" / "lock").touch()
    monkeypatch.setenv(VARIABLE, str(mine))
    prepare_extensions(tmp_path)
    assert os.environ[VARIABLE] == str(mine)
    assert (mine / "op" / "lock").exists()
    assert f"{mine / 'op' / 'lock'}: another process compiles there" in caplog.text
    monkeypatch.delenv(VARIABLE)
    (tmp_path / "file").touch()
    prepare_extensions(tmp_path / "file")
    assert VARIABLE not in os.environ
    prepare_extensions(tmp_path)
    assert Path(os.environ[VARIABLE]).parent == tmp_path / "extensions"
