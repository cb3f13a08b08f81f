"""What is shown to users without a traceback."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

LONGEST = 2000
"""Characters of an error; of a longer one the middle is left out."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says of a full disk."""


class MtlplugError(Exception):
    """Wrong input: one lower-case sentence with the value, the place and the remedy.

    The command line prints it after `error: ` and exits with 2; nothing else is caught. As it
    may quote a damaged file, it is one printable line (controls are escaped) of bounded length.
    """

    def __str__(self) -> str:
        text = super().__str__()
        if not text.isprintable():
            text = "".join(map(_printable, text))
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 600]} [...] {text[-600:]}"


def _printable(character: str) -> str:
    if character in "\r\n\t":
        return " "
    printable = character.isprintable()
    return character if printable else character.encode("unicode_escape").decode("ascii")


class BusyError(MtlplugError):
    """Another process is at work where this one should be."""


class NoRoomError(MtlplugError):
    """A disk is full; with room on it the same command goes on."""


class StoppedError(Exception):
    """Somebody asked a run to stop; what it has done is saved, and it can go on.

    It has been said already; the command line exits with 3.
    """


def unknown(kind: str, value: str, known: Iterable[str]) -> MtlplugError:
    """An error for a name that does not exist, which lists those that do and names a close one.

    >>> str(unknown("group", "XX", ["SL", "QA"]))
    "unknown group 'XX'; known: QA, SL"
    >>> str(unknown("group", "sl", ["SL", "QA"]))
    "unknown group 'sl' (did you mean 'SL'?); known: QA, SL"
    """
    names = sorted(known)
    meant = did_you_mean(value, names)
    return MtlplugError(f"unknown {kind} '{value}'{meant}; known: {', '.join(names) or 'none'}")


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` where a known name is close, else nothing.

    >>> did_you_mean("sl", ["SL", "QA"])
    " (did you mean 'SL'?)"
    """
    names = list(known)
    same = [name for name in names if name.casefold() == value.casefold()]
    close = same or difflib.get_close_matches(value, names, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
