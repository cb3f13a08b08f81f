"""Being asked to stop: the first SIGTERM or SIGINT is noted, the next ends the process.

After Ctrl-C on a launcher its ranks get SIGINT from the terminal and SIGTERM from the launcher;
SLURM sends SIGTERM to all, and the launcher once more. That is one wish, not two.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

ASKED = (signal.SIGTERM, signal.SIGINT)

SECONDS_TO_PASS_ON = 1.0
"""In which a launcher passes a signal on: till then another one is the same."""


class Signals:
    """Notes signals while it is entered; the main thread of a process only.

    Attributes:
        received: name of the signal, or None.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._received_at = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._note) for each in ASKED}
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.received is None:
            self.received, self._received_at = signal.Signals(number).name, time.monotonic()
        elif time.monotonic() > self._received_at + SECONDS_TO_PASS_ON:
            os._exit(128 + number)
