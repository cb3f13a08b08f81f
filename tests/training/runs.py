"""Runs of the small suite: starting them, and comparing what they leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from click.testing import Result
from safetensors.torch import load_file

from tests.small_suite import command

GROUPS = "SL+QA+C"


def run(suite: Path, folder: Path, *more: str | Path) -> Result:
    """`mtlplug run` on all formats; later options win."""
    return command("run", "--groups", GROUPS, "--suite", suite, "--output", folder, *more)


def read(folder: Path, name: str) -> Any:
    """A JSON file of a run."""
    return json.loads((folder / name).read_text(encoding="utf-8"))


def lines(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a run, without speeds, which differ from run to run."""
    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    parsed = [json.loads(line) for line in text.splitlines()]
    timed = ("tokens_per_second", "loader_wait")
    return [{k: v for k, v in line.items() if k not in timed} for line in parsed]


def result_of(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The report of a run without its times, and all weights it saved."""
    timed = ("seconds", "loader_wait")
    report = {key: v for key, v in read(folder, "report.json").items() if key not in timed}
    files = [folder / "encoder" / "model.safetensors", *(folder / "heads").iterdir()]
    return report, {
        f"{file.stem}.{name}": value for file in files for name, value in load_file(file).items()
    }


def equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    """Whether all weights are the same bits."""
    assert ours.keys() == theirs.keys()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)
