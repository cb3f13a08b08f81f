"""The local executor ends what it started, ranks of a launcher included."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

from mtlplug.study.pool import Pool
from tests.study.tiny import FakePlan

LAUNCHER = """
import signal, subprocess, sys, time
from pathlib import Path
rank = subprocess.Popen(["sleep", "600"], start_new_session=True)
def end(*_):
    rank.kill()
    rank.wait()
    sys.exit(1)
signal.signal(signal.SIGTERM, end)
Path(sys.argv[1]).write_text(str(rank.pid))
time.sleep(600)
"""


def test_ranks_with_sessions_of_their_own_end_too(tmp_path: Path) -> None:
    """torchrun's are in no group of ours: it is asked to end them before it is killed."""
    told = tmp_path / "rank"
    cell = dataclasses.replace(FakePlan().pretrain_cells()[0], options={"model": "m"})
    pool = Pool(tmp_path / "study", 1, 1, launcher=[sys.executable, "-c", LAUNCHER, str(told)])
    pool.submit(cell)
    deadline = time.monotonic() + 120
    while not (told.exists() and told.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    pool.close()
    assert not Path(f"/proc/{told.read_text()}").exists()
    assert not list((tmp_path / "study" / "cells").glob("*.json"))
