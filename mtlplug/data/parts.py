"""A share of a source's rows, for datasets that come without a validation split.

`part = "first 4/5 by context"` and `part = "last 1/5 by context"` of one source are a training
and a validation split without a common context.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mtlplug.data.readers import Column
from mtlplug.errors import MtlplugError

PART = re.compile(
    r"(?P<end>first|last) (?P<share>\d{1,9})/(?P<whole>\d{1,9})"
    r"(?: by (?P<column>\S+))?(?: seed (?P<seed>\d{1,9}))?"
)


@dataclass(frozen=True)
class Part:
    """A share of the rows; rows of equal key are never parted.

    Keys are put in the order of a hash, the same on every machine, and the row count of the
    share is met as closely as whole keys allow. `first a/n` and `last b/n` are disjoint where
    a + b <= n.

    Attributes:
        end: "first" or "last" in the order of the hash.
        share: numerator of the share.
        whole: its denominator.
        column: the file's column that holds the key; None for the whole row, so that only equal
            rows stay together.
        seed: of the hash; another one gives another draw.
    """

    end: str
    share: int
    whole: int
    column: str | None = None
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> Part:
        """The part that a suite's `part = "first 4/5 by context seed 1"` means.

        Raises:
            MtlplugError: the text is written otherwise, or the share is not between 0 and 1.
        """
        match = PART.fullmatch(text)
        share, whole = (int(match["share"]), int(match["whole"])) if match else (0, 0)
        if match is None or not 0 < share < whole:
            raise MtlplugError(
                f"part is '{text}'; write 'first 4/5', 'last 1/5', or 'first 4/5 by COLUMN' to "
                "keep rows of one context together, and ' seed 1' behind it for another draw"
            )
        return cls(match["end"], share, whole, match["column"], int(match["seed"] or 0))

    def keys(self, rows: Iterable[bytes]) -> set[bytes]:
        """The keys of this part, given those of all rows."""
        counts = Counter(rows)
        ordered = sorted(counts, key=lambda key: (hashlib.sha256(self._salt + key).digest(), key))
        first = self.share if self.end == "first" else self.whole - self.share
        border = sum(counts.values()) * first / self.whole
        chosen, before = set(), 0
        for key in ordered:
            # A key goes to the side on which the larger half of its rows lies.
            if (before + counts[key] / 2 < border) == (self.end == "first"):
                chosen.add(key)
            before += counts[key]
        return chosen

    def key(self, values: Mapping[Column, Any], column: Any) -> bytes:
        """The key of one row: a digest of the value of its column, or of all of them."""
        content = column if self.column is not None else list(values.items())
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).digest()

    @property
    def _salt(self) -> bytes:
        return str(self.seed).encode() + b"\0"
