"""What a run has written about itself so far, as plain values; finished or not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlplug.errors import MtlplugError
from mtlplug.training.folder import RunFolder, is_report

Scores = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Epoch:
    """A scored epoch; number 0 is before training."""

    number: int
    mean_loss: float | None
    best: bool
    scores: Scores


@dataclass(frozen=True)
class Step:
    """Steps since the last line of the log.

    Attributes:
        number: of the last of them.
        values: `loss`, `learning_rate`, `gradient_norm`, `tokens_per_second`, `loader_wait` and
            whatever else was logged.
    """

    number: int
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class Record:
    """A run as its folder has it.

    Attributes:
        folder: of the run.
        run: what `run.json` holds.
        report: what `report.json` holds; None where the run is not complete.
        steps: of `metrics.jsonl`.
        epochs: of `metrics.jsonl`.
    """

    folder: Path
    run: Mapping[str, Any]
    report: Mapping[str, Any] | None
    steps: Sequence[Step]
    epochs: Sequence[Epoch]

    @property
    def complete(self) -> bool:
        """Whether the run came to its end."""
        return self.report is not None

    @property
    def tasks(self) -> Mapping[str, Mapping[str, Any]]:
        """The tasks as `run.json` describes them."""
        tasks: Mapping[str, Mapping[str, Any]] = self.run["tasks"]
        return tasks

    @property
    def mix(self) -> str:
        """How often each task comes, and how its loss is weighted."""
        options = self.run["options"]
        return f"{options.get('mix', '-')}, weighting {options.get('weighting', '-')}"

    @property
    def best(self) -> Epoch | None:
        """The epoch with the lowest mean validation loss so far."""
        return next((each for each in reversed(self.epochs) if each.best), None)


def read_record(folder: Path) -> Record:
    """What the folder of a run holds.

    Raises:
        MtlplugError: it holds no run, or a file of it is damaged.
    """
    files = RunFolder(folder)
    run = files.read("run.json")
    if not isinstance(run, dict) or not {"options", "tasks", "decides"} <= run.keys():
        raise files.without_run()
    report = files.read("report.json")
    if report is not None and not is_report(report):
        raise files.no_report()
    steps, epochs = [], []
    for line in _lines(folder / "metrics.jsonl"):
        if line.get("event") == "step":
            values = {k: v for k, v in line.items() if k not in ("event", "epoch", "step")}
            steps.append(Step(int(line["step"]), values))
        elif line.get("event") in ("untrained", "validation"):
            epochs.append(
                Epoch(
                    int(line["epoch"]) + 1,
                    line.get("mean_loss"),
                    bool(line.get("best")),
                    line["scores"],
                )
            )
    return Record(folder, run, report, steps, epochs)


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; its last one may be on its way."""
    if not path.exists():
        return []
    texts = path.read_text(encoding="utf-8").splitlines()
    found = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
            if not isinstance(line, dict):
                raise ValueError("no object")
            found.append(line)
        except ValueError as error:
            if number < len(texts):
                raise MtlplugError(
                    f"{path}, line {number} is damaged ({error}); the run's own files are not to "
                    "be edited"
                ) from None
    return found
