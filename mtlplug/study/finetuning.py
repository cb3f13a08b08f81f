"""`mtlplug finetune`: a study of one encoder and one task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtlplug.errors import MtlplugError
from mtlplug.pages.table import Table, row_of
from mtlplug.pages.typesetting import new_console, print_table
from mtlplug.pages.wording import plural
from mtlplug.study.collect import collect
from mtlplug.study.command import run_missing, show_failures
from mtlplug.study.ledger import write_json
from mtlplug.study.results import BASELINE, Results, mean_and_deviation
from mtlplug.study.writing import RESULTS


def finetune(options: Mapping[str, Any], given: Mapping[str, Any], encoder: Path) -> int:
    """Finetune one encoder on one task: sweep, seeds, mean and deviation; returns the exit code.

    Args:
        options: as for `mtlplug run`.
        given: settings of the study that this is, of one column and one target.
        encoder: folder of an encoder, or of the run that made it.

    Raises:
        MtlplugError: there is no such folder, it is several tasks, or see
            `mtlplug.study.opening.open_study`.
    """
    if not encoder.is_dir():
        raise MtlplugError(
            f"--encoder {encoder} is no folder; give that of an encoder, or of the run that made it"
        )
    console = new_console()
    model = encoder / "encoder" if (encoder / "encoder").is_dir() else encoder
    task = str(given["targets"])
    if {*task} & {*",+"}:
        raise MtlplugError(
            f"--task '{task}' is not one task; finetune on several with 'mtlplug study run "
            "--groups baseline --targets'"
        )
    folder = Path(options.get("output") or Path("finetunes") / f"{encoder.name}-{task}")
    options = {**options, "model": str(model)}
    study, state = run_missing(options, {**given, "groups": BASELINE}, folder, console)
    results = collect(study)
    write_json(folder / RESULTS, results.as_dict())
    print_table(console, finetune_table(results, task))
    chosen = results.chosen_rate(task, BASELINE)
    scored = [
        (trial.score, -(trial.loss or 0.0), trial.command)
        for trial in results.of(task, BASELINE)
        if trial.rate == chosen and trial.score is not None
    ]
    if scored:
        console.print(
            f"to keep a model: {max(scored)[-1]}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    return show_failures(study, state, console)


def finetune_table(results: Results, task: str) -> Table:
    """Every run, then mean and deviation over the seeds at the best rate."""
    (target,) = (each for each in results.targets if each.name == task)
    chosen = results.chosen_rate(task, BASELINE)
    rows = tuple(
        row_of(
            f"{trial.rate:g}",
            f"{trial.seed}",
            f"{trial.score:.1f}" if trial.score is not None else trial.state,
            "-" if trial.loss is None else f"{trial.loss:.4f}",
            f"{trial.epochs or '-'}",
            best=trial.rate == chosen,
        )
        for trial in results.of(task, BASELINE)
    )
    notes = []
    if scores := results.scores(task, BASELINE):
        mean, deviation = mean_and_deviation(scores)
        spread = "" if deviation is None else f" ± {deviation:.1f}"
        notes = [f"rate {chosen:g}, {plural(len(scores), 'seed')}: {mean:.1f}{spread}"]
    title = f"{task}: {target.metric} on {target.valid} validation rows"
    header = ("learning rate", "seed", target.metric, "loss", "epochs")
    return Table("finetuning", title, header, rows, tuple(notes), words=0)
