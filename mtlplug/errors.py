"""The one error that is shown to users without a traceback."""

from __future__ import annotations

from collections.abc import Iterable


class MtlplugError(Exception):
    """Wrong input: one lower-case sentence with the value, the place and the remedy.

    The command line prints it after `error: ` and exits with 2; nothing else is caught.
    """


def unknown(kind: str, value: str, known: Iterable[str]) -> MtlplugError:
    """An error for a name that does not exist, which lists those that do.

    >>> str(unknown("group", "XX", ["SL", "QA"]))
    "unknown group 'XX'; known: QA, SL"
    """
    names = sorted(known)
    return MtlplugError(f"unknown {kind} '{value}'; known: {', '.join(names) or 'none'}")
