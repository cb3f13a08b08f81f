"""Helpers of the tests that read files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from mtlplug.data.sources import Source
from mtlplug.errors import MtlplugError


def write(path: Path, text: str | bytes) -> Path:
    """A file with this content, compressed where its name ends in .gz."""
    content = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def rows(path: Path, **settings: Any) -> list[dict[str, Any]]:
    """All rows of a file."""
    return [dict(row) for row in Source(path=path, **settings).rows()]


def fault(path: Path, **settings: Any) -> str:
    """The message of the error that reading a file ends in."""
    with pytest.raises(MtlplugError) as caught:
        rows(path, **settings)
    return str(caught.value)
