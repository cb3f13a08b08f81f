"""`--log-to NAME`: what goes to metrics.jsonl, in TensorBoard, Weights & Biases, MLflow or trackio.

Each tracker is a plugin like any other (`mtlplug_log`). Its library is an extra of mtlplug and is
imported when the run starts. What a tracker keeps locally, and the name under which it goes on
when the run does, is in the run's folder, in `trackers/`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import mtlplug
from mtlplug.errors import MtlplugError, unknown

PLACE = "trackers"
"""Folder in that of a run."""


class Tracker:
    """Takes lines of metrics.jsonl to somewhere else.

    Attributes:
        name: as `--log-to` has it, and the extra of mtlplug that brings its library.
        module: of its library.
    """

    name: str
    module: str

    def open(self, run: Mapping[str, Any], folder: Path) -> None:
        """Start, or go on with what an interrupted run began."""
        raise NotImplementedError

    def write(self, step: int, values: dict[str, float]) -> None:
        """Keep these numbers after so many optimizer steps."""
        raise NotImplementedError

    def close(self, complete: bool) -> None:
        """The run is over."""
        raise NotImplementedError

    @mtlplug.hookimpl
    def mtlplug_log(self, event: Mapping[str, Any]) -> None:
        """Called with every line of metrics.jsonl."""
        self.write(event["step"], numbers_of(event))

    @mtlplug.hookimpl
    def mtlplug_run_end(self, report: Mapping[str, Any] | None) -> None:
        """Called at the end."""
        self.close(report is not None)


class TensorBoard(Tracker):
    """Event files in `trackers/tensorboard`."""

    name, module = "tensorboard", "tensorboard"

    def open(self, run: Mapping[str, Any], folder: Path) -> None:
        """A new file; TensorBoard shows those of a folder as one run."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / PLACE / self.name))
        options = json.dumps(run["options"], indent=1)
        self._writer.add_text("options", f"```\n{options}\n```")

    def write(self, step: int, values: dict[str, float]) -> None:
        """One scalar each, on the disk at once."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, complete: bool) -> None:
        """Close the file."""
        self._writer.close()


class WandB(Tracker):
    """A run of Weights & Biases; its own variables (WANDB_MODE, WANDB_PROJECT) are heeded."""

    name, module = "wandb", "wandb"

    def open(self, run: Mapping[str, Any], folder: Path) -> None:
        """Begin, or go on with the run of the same id."""
        import wandb

        place = folder / PLACE
        place.mkdir(exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "mtlplug"),
            name=folder.name,
            id=kept(folder, "wandb.id", lambda: secrets.token_hex(4)),
            resume="allow",
            dir=place,
            config=dict(run["options"]),
        )

    def write(self, step: int, values: dict[str, float]) -> None:
        """One row of the run's history."""
        self._run.log(values, step=step)

    def close(self, complete: bool) -> None:
        """Send what is left."""
        self._run.finish(exit_code=0 if complete else 1)


class MLflow(Tracker):
    """A run where MLFLOW_TRACKING_URI says, of MLFLOW_EXPERIMENT_NAME, or else `mtlplug`."""

    name, module = "mlflow", "mlflow"

    def open(self, run: Mapping[str, Any], folder: Path) -> None:
        """Begin, or go on with the run of the same id."""
        from mlflow import MlflowClient

        self._client = client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "mtlplug")

        def begin() -> str:
            found = client.get_experiment_by_name(name)
            experiment = found.experiment_id if found else client.create_experiment(name)
            made: str = client.create_run(experiment, run_name=folder.name).info.run_id
            for key, value in run["options"].items():
                client.log_param(made, key, value)
            return made

        self._run = kept(folder, "mlflow.id", begin)
        client.set_terminated(self._run, "RUNNING")

    def write(self, step: int, values: dict[str, float]) -> None:
        """One metric each."""
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self, complete: bool) -> None:
        """Say how it ended."""
        self._client.set_terminated(self._run, "FINISHED" if complete else "KILLED")


class Trackio(Tracker):
    """A run of trackio's project `mtlplug`, or TRACKIO_PROJECT."""

    name, module = "trackio", "trackio"

    def open(self, run: Mapping[str, Any], folder: Path) -> None:
        """Begin, or go on with the run of the same name."""
        import trackio

        self._trackio = trackio
        end = kept(folder, "trackio.id", lambda: secrets.token_hex(4))
        with redirect_stdout(sys.stderr):  # what trackio tells is no part of a run's own output
            trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", "mtlplug"),
                name=f"{folder.name}-{end}",
                resume="allow",
                config=dict(run["options"]),
            )

    def write(self, step: int, values: dict[str, float]) -> None:
        """One row of the run's history."""
        self._trackio.log(values, step=step)

    def close(self, complete: bool) -> None:
        """Write what is left."""
        with redirect_stdout(sys.stderr):
            self._trackio.finish()


TRACKERS: Mapping[str, type[Tracker]] = {
    each.name: each for each in (TensorBoard, WandB, MLflow, Trackio)
}


def trackers_of(names: str) -> list[Tracker]:
    """The trackers that `--log-to` names, by commas; not started yet.

    Raises:
        MtlplugError: one is unknown, or its library is not installed.
    """
    found = []
    for name in dict.fromkeys(part.strip() for part in names.split(",") if part.strip()):
        if name not in TRACKERS:
            raise unknown("tracker in --log-to", name, TRACKERS)
        if importlib.util.find_spec(TRACKERS[name].module) is None:
            raise MtlplugError(
                f"--log-to {name} needs a library that is not installed; "
                f"pip install 'mtlplug[{name}]'"
            )
        found.append(TRACKERS[name]())
    return found


def numbers_of(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl under names that trackers group by.

    >>> numbers_of({"event": "step", "step": 3, "epoch": 0, "loss": 0.5, "gradient_norm": None})
    {'epoch': 0, 'train/loss': 0.5}

    The epoch counts those that were done before.
    """
    kind = "train" if line["event"] == "step" else "valid"
    found = {"epoch": line["epoch"]}
    for key, value in line.items():
        if key not in ("epoch", "step") and type(value) in (int, float):
            found[f"{kind}/{key}"] = value
    for task, scores in line.get("scores", {}).items():
        for metric, value in scores.items():
            if value is not None:
                found[f"{kind}/{task}/{metric}"] = value
    return found


def kept(folder: Path, name: str, make: Callable[[], str]) -> str:
    """What a file in `trackers/` says; made where there is none yet."""
    path = folder / PLACE / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = make()
        path.write_text(made + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
