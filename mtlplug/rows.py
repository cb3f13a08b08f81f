"""Dataset rows as formats get them: a dict that knows its place and checks its values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mtlplug.errors import MtlplugError

KINDS = {str: "no text", float: "no number", int: "no whole number", list: "no list"}
"""What a value is that is none of a kind."""


class Row(dict[str, Any]):
    """A dataset row as loaded, with the place it came from (`where`: "FILE, line 12")."""

    where: str = ""

    def __init__(self, values: Mapping[str, Any] | None = None, where: str = "") -> None:
        super().__init__(values or {})
        self.where = where

    def __or__(self, other: Mapping[str, Any]) -> Row:  # type: ignore[override]
        """A row of the same place with other values beside or instead."""
        return Row({**self, **other}, self.where)

    def value(self, column: str, kind: type, default: Any = ...) -> Any:
        """The value of a column, checked: what a format reads comes from files of others.

        Args:
            column: its name.
            kind: str, float, int or list; numbers may be given as texts, as TSV files have them.
            default: what stands for a missing value; left out, the value must be there.

        Raises:
            MtlplugError: it is missing or of another kind; names the row's place and the column.
        """
        if column not in self and default is ...:
            raise MtlplugError(
                f"{self.where}: there is no column '{column}' but {', '.join(map(str, self))}; "
                "`columns` in the suite must name every column that is read"
            )
        value = self.get(column)
        if value is None and default is not ...:
            return default
        found = _number(value, kind) if kind in (int, float) else value
        if type(found) is not kind:
            raise MtlplugError(
                f"{self.where}: column '{column}' holds {value!r:.80}, which is {KINDS[kind]}; "
                "name the column that holds it in the suite"
            )
        return found


def _number(value: Any, kind: Any) -> Any:
    """A finite number of this kind, from a number or its text; None for anything else."""
    if type(value) is kind:
        return value if math.isfinite(value) else None
    if type(value) not in (str, int, float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    whole = math.isfinite(number) and (kind is float or number.is_integer())
    return kind(number) if whole else None
