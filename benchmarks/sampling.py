"""Finds out what a process does, by looking at its main thread every few milliseconds.

The wall and processor time since the last look goes to the phase that the stack belongs to, so
that nothing is left out and nothing needs to be changed in what is measured. Only what is in the
standard library is imported here: the start of a process is measured, too.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

BETWEEN = 0.005
"""Seconds between two looks."""

OUTERMOST = ("<module>", "_run_module_as_main")
"""What the first frame of a program is."""

WRITTEN = 0.5
"""Seconds between two writings of the file: a process may be killed at any moment."""

Phases = Mapping[tuple[str, str], str]
"""By name of a file and function: the phase. The innermost frame that is named decides."""


def start(folder: str, phases: Phases) -> None:
    """Sample this process, and those forked from it, into a file of the folder each."""

    def sample() -> None:
        sampler = Sampler(Path(folder), phases, threading.main_thread().ident or 0)
        threading.Thread(target=sampler.run, daemon=True).start()

    os.register_at_fork(after_in_child=sample)
    sample()


class Sampler:
    """Looks at one process."""

    def __init__(self, folder: Path, phases: Phases, thread: int) -> None:
        self._path = folder / f"{os.getpid()}.json"
        self._phases = phases
        self._thread = thread
        self._seconds: dict[str, list[float]] = {}
        self._last = "other"
        self._started = time.time()

    def run(self) -> None:
        """Until the process ends."""
        wall, processor, written = time.monotonic(), 0.0, 0.0
        while True:
            frame = sys._current_frames().get(self._thread)
            # Without this thread's own share.
            now = time.monotonic(), time.process_time() - time.thread_time()
            self._last = self._phase(frame)
            spent = self._seconds.setdefault(self._last, [0.0, 0.0])
            spent[0] += now[0] - wall
            spent[1] += now[1] - processor
            wall, processor = now
            if wall - written > WRITTEN:
                self._write()
                written = wall
            time.sleep(BETWEEN)

    def _phase(self, frame: FrameType | None) -> str:
        name = ""
        while frame is not None:
            code = frame.f_code
            name = code.co_name
            place = (code.co_filename.rsplit("/", 1)[-1], name)
            if place in self._phases:
                return self._phases[place]
            frame = frame.f_back
        # Seen in the middle of a call, a frame may have no caller yet: a generator's, for one.
        return "other" if name in OUTERMOST else self._last

    def _write(self) -> None:
        facts = {
            "process": os.getpid(),
            "parent": os.getppid(),
            "started": self._started,
            "seconds": self._seconds,
        }
        unfinished = self._path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(facts), encoding="utf-8")
        unfinished.replace(self._path)
