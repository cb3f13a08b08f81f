"""The processor and the memory this runs on."""

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


def free_memory() -> int | None:
    """Bytes that this process can still get, a container's limit counted; None: not known."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = int(dict(line.split(":") for line in lines)["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
        kinds = (group / "memory.stat").read_text(encoding="ascii").splitlines()
        sizes = {kind: int(size) for kind, size in map(str.split, kinds)}
    except (OSError, ValueError):  # no limit: the file says "max", or is not there
        return free
    # Files that were read stay in memory for as long as nobody needs it.
    cached = sizes.get("active_file", 0) + sizes.get("inactive_file", 0)
    return max(0, min(free, limit - used + cached))
