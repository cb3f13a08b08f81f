"""Processes of the local executor: when they may be copies of the driver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtlplug.study import worker
from mtlplug.study.pool import visible_devices
from mtlplug.study.worker import DEVICES, import_all

LAUNCH = """
import os, sys
from pathlib import Path
from mtlplug.study.cell import _launched
assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
_launched([sys.executable, "-c", {tell!r}], {{}}, Path({output!r}))
"""

FRESH = """
import os
from mtlplug.study.worker import Forked, import_all
assert import_all()
import torch
first = Forked(1, [])
second = Forked(1, [first])
for process in (second, first):
    assert os.getpgid(process.pid) == process.pid
    process.stdin.close()
    print(process.wait())
"""


def test_no_copy_of_a_process_that_may_have_computed() -> None:
    """Torch is here already: OpenMP's threads would not survive a fork."""
    import torch  # noqa: F401

    assert import_all() is False


def test_a_copy_ends_with_its_driver() -> None:
    """When the driver's end of the pipe closes, in any order of the workers."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", FRESH], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["-9", "-9"]


def test_each_process_has_a_gpu_of_those_that_the_driver_sees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the names they have there; all are numbered where nothing is said."""
    monkeypatch.delenv(DEVICES, raising=False)
    assert visible_devices(2) == ["0", "1"]
    monkeypatch.setenv(DEVICES, "2,GPU-5a,7")
    assert visible_devices(2) == ["2", "GPU-5a"]


@pytest.mark.parametrize("shown", [None, "2,3"])
def test_a_launcher_sees_all_gpus_of_the_driver(
    shown: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only the one of the process that starts it."""
    monkeypatch.delenv(DEVICES, raising=False)
    if shown:
        monkeypatch.setenv(DEVICES, shown)
    (tmp_path / "report.json").write_text("{}", encoding="utf-8")
    told = str(tmp_path / "told")
    tell = f"import os; open({told!r}, 'w').write(str(os.environ.get('{DEVICES}')))"
    monkeypatch.setattr(worker, "SERVE", LAUNCH.format(tell=tell, output=str(tmp_path)))
    assert worker.Started(1, "3").wait() == 0
    assert (tmp_path / "told").read_text(encoding="utf-8") == str(shown)
