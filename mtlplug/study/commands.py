"""`mtlplug study` and `mtlplug finetune`. Torch is imported only inside commands."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from mtlplug.options import (
    CONTEXT,
    PATH,
    finetune_options,
    shown_errors,
    study_options,
    worker_options,
)
from mtlplug.study.worker import import_all


@click.group(context_settings=CONTEXT)
def study() -> None:
    """Pre-finetune on every combination of groups, finetune on unseen targets, compare."""


STUDY = ("groups", "targets", "rates", "seeds", "pretrain", "finetune", "threads", "price")
WORK = ("workers", "per_gpu", "executor", "address", "retry")
"""Options of studies that are none of a run."""


def _apart(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of runs, and those of the study."""
    given = {name: options.pop(name) for name in (*STUDY, *WORK) if name in options}
    return options, given


@click.command(context_settings=CONTEXT)
@click.option("--encoder", type=PATH, required=True, help="Folder of an encoder, or of its run.")
@click.option("--task", required=True, help="The task to finetune on.")
@finetune_options
@worker_options
@shown_errors
def finetune(encoder: Path, task: str, **options: Any) -> None:
    """Finetune an encoder on one task: learning rates, then seeds; mean and deviation."""
    runs, given = _apart(options)
    given |= {"targets": task, "fork": import_all()}
    from mtlplug.study.finetuning import finetune as run_finetuning

    sys.exit(run_finetuning(runs, given, encoder))


@study.command("plan", context_settings=CONTEXT)
@study_options
@shown_errors
def plan(**options: Any) -> None:
    """Show what a study would run and what it would take; nothing is trained."""
    from mtlplug.study.command import plan_study

    plan_study(*_apart(options))


@study.command("run", context_settings=CONTEXT)
@study_options
@worker_options
@click.option("--launcher", help="Starts pre-finetuning: 'deepspeed --hostfile FILE'.")
@shown_errors
def run_all(launcher: str | None, **options: Any) -> None:
    """Run all cells that are not done, then write tables and page.

    Killed at any moment and started again, it goes on. Several may run on one folder.
    """
    runs, given = _apart(options)
    given |= {"launcher": shlex.split(launcher or ""), "fork": import_all()}
    from mtlplug.study.command import run_study

    sys.exit(run_study(runs, given))


@study.command("status", context_settings=CONTEXT)
@click.argument("folder", type=PATH)
@shown_errors
def status(folder: Path) -> None:
    """Show which cells of a study are done, running, failed, left."""
    from mtlplug.study.command import show_status

    show_status(folder)


@study.command("report", context_settings=CONTEXT)
@click.argument("folder", type=PATH)
@click.option("--price", type=float, help="Price of an hour of one worker.")
@shown_errors
def report(folder: Path, price: float | None) -> None:
    """Write the tables and the page of a study as it is now."""
    from mtlplug.study.command import report_study

    report_study(folder, price)
