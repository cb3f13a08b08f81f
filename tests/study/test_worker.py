"""Processes of the local executor: when they may be copies of the driver."""

from __future__ import annotations

import os
import subprocess
import sys

from mtlplug.study.worker import import_all

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
