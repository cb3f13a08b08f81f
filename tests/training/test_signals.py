"""mtlplug.training.signals: one wish to stop is noted, another one ends the process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from mtlplug.training import signals
from mtlplug.training.signals import SECONDS_TO_PASS_ON, Signals


class EndedError(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the clock that is looked at; the process does not really end."""

    def end(code: int) -> None:
        raise EndedError(code)

    monkeypatch.setattr(os, "_exit", end)
    return lambda seconds: monkeypatch.setattr(signals.time, "monotonic", lambda: seconds)


def test_a_second_signal_ends_the_process(at: Callable[[float], None]) -> None:
    """One that a launcher passes on is no second one; handlers are put back."""
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as asked:
        at(100.0)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        at(100.0 + SECONDS_TO_PASS_ON / 2)
        signal.raise_signal(signal.SIGTERM)
        assert asked.received == "SIGINT"
        at(100.1 + SECONDS_TO_PASS_ON)
        with pytest.raises(EndedError, match=str(128 + signal.SIGTERM)):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before
