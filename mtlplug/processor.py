"""The processor this runs on: what it is called, and what it can do."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import NamedTuple


class Processor(NamedTuple):
    """A processor as the system describes it.

    Attributes:
        name: as its maker calls it.
        flags: its features, such as "avx2"; empty where the system does not tell.
    """

    name: str
    flags: frozenset[str]


def processor() -> Processor:
    """The processor this process runs on."""
    unknown = platform.processor() or platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return Processor(unknown, frozenset())
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    # Keys repeat for each core; ARM calls its flags Features.
    found = {key.strip(): value.strip() for key, value in pairs}
    flags = found.get("flags") or found.get("Features") or ""
    return Processor(found.get("model name", unknown), frozenset(flags.split()))
