"""What a run left behind, in a form that two runs can be compared by, to the last bit."""

from __future__ import annotations

import hashlib
import json
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


def _untimed(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in TIMED}
