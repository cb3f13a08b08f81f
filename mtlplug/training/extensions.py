"""What torch compiles at run time: a folder of our own, and no waiting for who was killed.

torch builds an extension under a lock file, and a process killed there leaves it behind: every
later run that needs the extension waits for it, without a word (pytorch #189245).
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
from pathlib import Path
from typing import IO

import torch

VARIABLE = "TORCH_EXTENSIONS_DIR"

_in_use: list[IO[str]] = []
"""Keeps the mark of this process on the folder until it ends."""


def prepare_extensions(cache: Path) -> None:
    """Give torch a folder for what it compiles, without locks of processes that are gone.

    Args:
        cache: in which the folder is made, unless the user named one in `TORCH_EXTENSIONS_DIR`.
    """
    if named := os.environ.get(VARIABLE):
        for lock in sorted(Path(named).glob("*/lock")):
            logging.warning(
                "%s: another process compiles there, or was killed while it did; in that case "
                "remove the file, for which DeepSpeed would wait for ever",
                lock,
            )
        return
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache / "extensions" / f"torch-{torch.__version__}-python-{python}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for lock in remove_stale_locks(folder):
            logging.warning("%s was left by a run that was killed while compiling; removed", lock)
    except OSError:
        return  # torch's own folder has to do
    os.environ[VARIABLE] = str(folder)


def remove_stale_locks(folder: Path) -> list[Path]:
    """Remove all locks if no process of ours uses the folder, and mark it as used by this one."""
    mark = (folder / "in-use").open("w", encoding="utf-8")
    _in_use.append(mark)
    stale = []
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        stale = sorted(folder.glob("*/lock"))
        for lock in stale:
            lock.unlink()
    except BlockingIOError:
        pass  # somebody is at work; a lock there may be theirs
    fcntl.flock(mark, fcntl.LOCK_SH)
    return stale
