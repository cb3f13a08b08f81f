"""From the ledger to `Results`: what is done, and for each run the command that repeats it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from mtlplug.plugin_sources import given
from mtlplug.processor import processor
from mtlplug.repeating import command_of
from mtlplug.study.opening import Study
from mtlplug.study.plan import Cell
from mtlplug.study.results import BASELINE, DONE, FAILED, MISSING, Column, Results, Trial
from mtlplug.study.settings import FINETUNE

PACKAGES = ("torch", "deepspeed", "transformers", "datasets", "tokenizers")


def collect(study: Study, price: float | None = None) -> Results:
    """All results of a study as they are now."""
    overview, plan = study.overview, study.plan
    cells = overview.cells()
    made = {cell.column: cell for cell in cells if cell.kind != FINETUNE}
    columns = [
        Column(BASELINE, seconds=0.0) if name == BASELINE else column_of(study, made[name])
        for name in plan.settings.columns
    ]
    trials = [trial_of(study, cell) for cell in cells if cell.kind == FINETUNE]
    return Results(
        suite=plan.workspace.suite.name,
        title=plan.workspace.suite.title or plan.workspace.suite.name,
        model=plan.workspace.config.model,
        columns=tuple(columns),
        targets=study.targets,
        trials=tuple(trials),
        rates=plan.settings.rates,
        seeds=plan.settings.seeds,
        price=price,
        facts=facts_of(study),
    )


def column_of(study: Study, cell: Cell) -> Column:
    """A column as its pre-finetuning cell left it."""
    result = study.overview.result(cell.name)
    command = _command(cell, cell.options, result)
    if result is None or result["state"] != DONE:
        state = MISSING if result is None else FAILED
        error = "" if result is None else str(result.get("error", ""))
        return Column(cell.column, state, cell.name, command=command, error=error)
    report: Mapping[str, Any] = result["report"]
    seconds = report["seconds"]
    return Column(
        name=cell.column,
        cell=cell.name,
        seconds=seconds["training"] + seconds["evaluation"],
        seconds_per_epoch=seconds["training"] / report["epochs"],
        epochs=report["epochs"],
        tokens=report["tokens"],
        scores={task: each["score"] for task, each in report["tasks"].items()},
        curve=[{"epoch": each["epoch"], "loss": each["loss"]} for each in result["curve"]],
        command=command,
    )


def trial_of(study: Study, cell: Cell) -> Trial:
    """A finetuning run with the command that repeats it."""
    options = dict(cell.options)
    if cell.encoder is not None:
        folder = study.ledger.encoder_folder(cell.column, cell.encoder)
        options["model"] = str((folder / "encoder").absolute())
    command = _command(cell, options, study.overview.result(cell.name))
    return replace(study.overview.trial(cell), command=command)


def _command(cell: Cell, options: Mapping[str, Any], result: Mapping[str, Any] | None) -> str:
    """What repeats a run in a folder of its own, with the plugins and the ranks it had."""
    plugins = given() if result is None else result.get("plugins", [])
    ranks = (result or {}).get("report", {}).get("world_size", 1)
    return shlex.join(command_of({**options, "output": f"runs/{cell.name}"}, plugins, ranks))


def facts_of(study: Study) -> dict[str, Any]:
    """What was run, with what, where."""
    results = [study.overview.result(cell.name) for cell in study.overview.cells()]
    ended = [each for each in results if each is not None]
    return {
        "options": dict(study.plan.options),
        "pretrain": dict(study.plan.settings.pretrain),
        "finetune": dict(study.plan.settings.finetune),
        "threads": study.plan.threads,
        "when": _when(ended),
        "machine": processor().name,
        "cores": len(os.sched_getaffinity(0)),
        "versions": {name: version(name) for name in PACKAGES},
        "hosts": sorted({each["host"] for each in ended}),
        "mtlplug": sorted({each["mtlplug"] for each in ended}),
        "hours of work": round(sum(each["wall"] for each in ended) / 3600, 3),
    }


def _when(ended: Sequence[Mapping[str, Any]]) -> str:
    """The day on which the last cell ended."""
    last = max((each["started"] + each["wall"] for each in ended), default=None)
    return "" if last is None else datetime.fromtimestamp(last, UTC).date().isoformat()
