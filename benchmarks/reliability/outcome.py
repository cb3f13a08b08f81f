"""What a run left behind, in a form that two runs can be compared by; what a campaign found."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

TIMED = ("tokens_per_second", "loader_wait", "seconds")
"""Figures that differ from run to run."""


def outcome(folder: Path) -> dict[str, Any]:
    """The report, every line of metrics.jsonl and the digest of every file of weights."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    weights = sorted([*(folder / "encoder").glob("*.safetensors"), *(folder / "heads").iterdir()])
    return {
        "report": _untimed(json.loads((folder / "report.json").read_text(encoding="utf-8"))),
        "metrics": [_untimed(json.loads(line)) for line in lines],
        "weights": {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in weights
        },
    }


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Which parts of two outcomes are not the same."""
    return [part for part in ours if ours[part] != theirs[part]]


def conclude(found: dict[str, Any], output: Path | None, *, failed: bool) -> None:
    """Print and write what a campaign found, with its command, and end the process."""
    text = json.dumps({**found, "command": " ".join(sys.argv)}, indent=1)
    print(text)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text + "\n", encoding="utf-8")
    sys.exit(1 if failed else 0)


def _untimed(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in TIMED}
