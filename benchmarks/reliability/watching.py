"""Whether files were opened, by whatever process and library: Linux's inotify says so."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

IN_OPEN = 0x20
EVENT = struct.Struct("iIII")


class Watch:
    """Notes which of some files are opened from now on; use it in a `with` statement."""

    def __init__(self, paths: Iterable[Path]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._file = libc.inotify_init1(os.O_NONBLOCK)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "inotify cannot be had")
        self._paths = {libc.inotify_add_watch(self._file, bytes(path), IN_OPEN): path
                       for path in paths}  # fmt: skip
        if -1 in self._paths:
            raise OSError(ctypes.get_errno(), f"{self._paths[-1]} cannot be watched")

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def opened(self) -> set[Path]:
        """The files that were opened since the last call."""
        found = set()
        try:
            while data := os.read(self._file, 1 << 16):
                place = 0
                while place < len(data):
                    number, _, _, size = EVENT.unpack_from(data, place)
                    place += EVENT.size + size
                    found.add(self._paths[number])
        except BlockingIOError:
            pass
        return found
