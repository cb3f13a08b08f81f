"""Being asked to stop: the first SIGTERM or SIGINT is noted, the second ends the process."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

ASKED = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Notes signals while it is entered; the main thread of a process only.

    Attributes:
        received: name of the signal, or None.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._note) for each in ASKED}
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = signal.Signals(number).name
