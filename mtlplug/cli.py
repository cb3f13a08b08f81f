"""The command line. Torch is imported only inside commands, so that `--help` answers at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from mtlplug import __version__
from mtlplug.completion import complete_groups, complete_tasks
from mtlplug.data.commands import data
from mtlplug.option_values import pairs
from mtlplug.options import (
    CONTEXT,
    PATH,
    named,
    plugin_option,
    shown_errors,
    step_options,
    steps_of_trainer,
    suite_options,
)
from mtlplug.plugin_commands import WithPlugins
from mtlplug.plugins.commands import plugins
from mtlplug.study.commands import finetune, study


@click.group(cls=WithPlugins, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="mtlplug")
@click.option("--local-rank", type=int, hidden=True, expose_value=False)
@plugin_option
def main() -> None:
    """Multi-task pre-finetuning of shared text encoders."""


for each in (data, finetune, plugins, study):
    main.add_command(each)


@main.command(context_settings=CONTEXT)
@click.option(
    "--groups",
    shell_complete=complete_groups,
    help="What to train on: groups or tasks joined by '+'.  [required]",
)
@suite_options
@named("output", type=PATH, help="Folder of the run. [runs/SUITE-GROUPS]")
@click.option("--seed", type=int, help="Of the mix, new heads and dropout. [13]")
@step_options
@click.option("--fp16", "precision", flag_value="fp16", help="The same as --precision fp16.")
@click.option("--bf16", "precision", flag_value="bf16", help="The same as --precision bf16.")
@steps_of_trainer
@named("max-epochs", type=int, help="Epochs at the most. [10]")
@click.option(
    "--patience", type=int, help="Epochs without improvement before stopping; 0: never. [3]"
)
@click.option("--learning-rate", type=float, help="Peak learning rate of AdamW. [5e-5]")
@click.option("--warmup-ratio", type=float, help="Share of steps the rate rises over. [0]")
@click.option("--weight-decay", type=float, help="AdamW's weight decay. [0]")
@named("gradient-clipping", type=float, help="Largest gradient norm; 0: none. [1]")
@click.option(
    "--weighting",
    metavar="NAME[:PARAMETER]",
    help="How losses are weighted: none, log_num_labels, uncertainty, or a plugin's. [none]",
)
@named("log-every", type=int, help="Steps between lines of metrics.jsonl. [10]")
@named("log-to", metavar="NAMES", help="Trackers by commas: tensorboard, wandb, mlflow, trackio.")
@click.option("--save-minutes", type=float, help="Most minutes between checkpoints. [10]")
@click.option("--keep-checkpoints", type=int, help="Newest checkpoints kept. [2]")
@click.option(
    "--hang-seconds", type=float, help="A rank that hangs so long ends the run; 0: none does. [120]"
)
@click.option(
    "--allow-change",
    multiple=True,
    metavar="OPTION",
    default=None,
    help="Go on with this option changed: max_epochs, patience, max_tokens, "
    "gradient_checkpointing, cuda_graphs. May be repeated.",
)
@named("overwrite", is_flag=True, default=None, help="Start over in a used folder.")
@click.option("--dry-run", is_flag=True, help="Show what would be done; train nothing.")
@click.option(
    "--ignore-memory",
    is_flag=True,
    default=None,
    help="Begin where memory seems too small, too.",
)
@click.option("--local-rank", type=int, hidden=True, help="Set by the deepspeed launcher.")
@shown_errors
def run(local_rank: int | None, dry_run: bool, **options: Any) -> None:
    """Pre-finetune one encoder on groups of tasks.

    Under a launcher: `deepspeed mtlplug/run.py --groups SL+C`. Run again on the same output
    folder, it goes on where it was interrupted.
    """
    if not (options["groups"] or options["config"] or options["set"]):
        raise click.MissingParameter(param_hint="'--groups'", param_type="option")
    if local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(local_rank))
    import mtlplug

    (mtlplug.preview if dry_run else mtlplug.train)(**options)


@main.command(context_settings=CONTEXT)
@click.option(
    "--groups",
    default="all",
    show_default=True,
    help="Combinations separated by commas, for example SL,SL+C; 'all' for every combination.",
)
@suite_options
@step_options
@click.option("--steps", type=int, default=8, show_default=True, help="Steps timed of each.")
@click.option(
    "--compare/--no-compare",
    default=True,
    show_default=True,
    help="Time the same work padded, as other tools do it.",
)
@click.option("--price", type=float, help="Price of an hour of this machine; epochs get theirs.")
@click.option("--simulate", is_flag=True, help="Predict epochs on other numbers of ranks.")
@click.option("--ranks", default="8,64,512", show_default=True, help="Which, with --simulate.")
@click.option("--bandwidth", type=float, default=25.0, show_default=True, help="GB/s, per rank.")
@click.option("--latency", type=float, default=20.0, show_default=True, help="Microseconds a hop.")
@click.option("--json", type=PATH, help="File for the results.")
@click.option("--picture", type=PATH, help="SVG or PNG file of the epochs as bars.")
@shown_errors
def bench(groups: str, **options: Any) -> None:
    """Measure what an epoch of each combination of groups costs.

    A few random steps of each are timed and extrapolated by the known lengths of all features.
    Under a launcher all ranks take part: `torchrun --nproc-per-node 8 -m mtlplug bench`.
    """
    from mtlplug.bench.command import Settings
    from mtlplug.bench.command import bench as measure

    measure(Settings.of(groups, options), options)


@main.command(context_settings=CONTEXT)
@click.option(
    "--groups",
    shell_complete=complete_groups,
    help="Only these groups or tasks. [all tasks of the suite]",
)
@suite_options
@shown_errors
def tasks(groups: str | None, **options: Any) -> None:
    """List a suite's tasks: rows, labels, token lengths, what was cut or repaired."""
    from mtlplug.listing import list_tasks

    list_tasks(groups, options)


@main.command(context_settings=CONTEXT)
@click.argument("task", shell_complete=complete_tasks)
@click.option("-n", "--number", type=int, default=3, show_default=True, help="How many rows.")
@click.option("--split", default="train", show_default=True, help="Of which split.")
@suite_options
@shown_errors
def inspect(task: str, number: int, split: str, **options: Any) -> None:
    """Show rows of a task as the model sees them: tokens, reads, targets."""
    from mtlplug.listing import inspect_task

    inspect_task(task, split, number, options)


@main.command(context_settings=CONTEXT)
@click.argument("folder", metavar="RUN", type=PATH)
@click.option("--html", type=PATH, metavar="FILE", help="Write one self-contained page instead.")
@shown_errors
def show(folder: Path, html: Path | None) -> None:
    """Show a run, finished or not: tasks, mix, scores and losses by epoch, cost."""
    from mtlplug.api import Run

    Run(folder).show(html)


@main.command(context_settings=CONTEXT)
@click.argument("folder", metavar="RUN", type=PATH)
@click.option("--task", required=True, help="Whose head; one of the run's tasks.")
@click.option("--split", default="valid", show_default=True, help="Of that task.")
@click.option("--compare", type=PATH, metavar="RUN", help="Another run on the same rows.")
@click.option("--errors", type=click.IntRange(0), default=5, show_default=True, help="Shown.")
@click.option("--suite", metavar="NAME_OR_TOML", help="Where the task is now. [as in the run]")
@click.option("--data", type=PATH, help="Folder the suite's paths start from. [as in the run]")
@click.option("--cache", type=PATH, help="Folder of stored features.")
@click.option("--all-rows", is_flag=True, help="Those beyond max_rows_per_task of the run, too.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
@shown_errors
def evaluate(
    folder: Path,
    task: str,
    split: str,
    compare: Path | None,
    errors: int,
    as_json: bool,
    **where: Any,
) -> None:
    """Score a head of a finished run on a split: metrics, labels, confusions, lengths, errors."""
    from mtlplug.api import Run
    from mtlplug.results import compare as comparison
    from mtlplug.results import report as shown

    ours = Run(folder).evaluate(task, split, **where)
    theirs = None if compare is None else Run(compare).evaluate(task, split, **where)
    differences = None if theirs is None else comparison.compare(ours, theirs)
    if as_json:
        shown.print_json(shown.as_json(ours, errors, differences))
    else:
        shown.print_evaluation(ours, errors, theirs, differences or ())


@main.command(context_settings=CONTEXT)
@click.option("--zero", metavar="STAGES", help="Check the gradient under ZeRO: 0,1,2,3 or fewer.")
@click.option("--ranks", type=int, help="Processes of that check. [2]")
@click.option("--groups", help="Tasks of that check. [two of every installed format]")
@suite_options
@click.option("--json", "as_json", is_flag=True, help="Print all checks as one JSON object.")
@shown_errors
def doctor(
    zero: str | None, ranks: int | None, groups: str | None, as_json: bool, **options: Any
) -> None:
    """Check this machine, the model, and the gradient of the installed formats.

    Exit code 0: nothing is bad; 1: something is; 2: an option is wrong.
    """
    from mtlplug.doctor.command import examine

    if not examine(options, zero, ranks, groups, as_json):
        sys.exit(1)


@main.command(context_settings=CONTEXT)
@click.argument("folder", type=PATH, metavar="RUN")
@click.argument("file", type=PATH, default="-", metavar="[FILE|-]")
@click.option("--task", "tasks", required=True, help="Which heads: tasks joined by commas.")
@click.option(
    "--input",
    "kind",
    help="text, conll, jsonl, squad, mrqa, tsv, csv, parquet. [by the file's name]",
)
@click.option("--format", "output_format", default="jsonl", show_default=True, help="Or conll.")
@click.option("--to", type=PATH, help="File for the predictions. [standard output]")
@click.option(
    "--column",
    "columns",
    multiple=True,
    callback=pairs,
    metavar="OURS=THEIRS",
    help="What the file calls a column: text=review; may be repeated.",
)
@click.option(
    "--option",
    "options",
    multiple=True,
    callback=pairs,
    metavar="KEY=VALUE",
    help="An option of the task's format, other than in training: n_best=3; may be repeated.",
)
@click.option("--encoding", default="utf-8", show_default=True, help="Of the file.")
@click.option(
    "--header/--no-header",
    default=True,
    help="Whether a TSV or CSV file names its columns. [yes]",
)
@shown_errors
def predict(folder: Path, file: Path, tasks: str, **options: Any) -> None:
    """Predict with a finished run: one answer for each row of a file or of standard input.

    Several tasks share one pass of the encoder. Rows are read as they come, in bounded memory.
    """
    from mtlplug.inference.command import predict as run_prediction

    run_prediction(folder, [name.strip() for name in tasks.split(",")], file, **options)


@main.command(context_settings=CONTEXT)
@click.argument("folder", type=PATH, metavar="RUN")
@click.option("--task", help="Write the stock model of this task.")
@click.option("--all", "everything", is_flag=True, help="Of every task, each in TO/TASK.")
@click.option("--encoder", is_flag=True, help="The encoder alone.")
@click.option("--to", type=PATH, required=True, help="A new or empty folder.")
@click.option("--onnx", is_flag=True, help="Write model.onnx too, checked against torch.")
@shown_errors
def export(folder: Path, **options: Any) -> None:
    """Write models of a finished run that transformers opens without mtlplug.

    With tokenizer, names of labels and model card; logits are equal to those of the run.
    """
    from mtlplug.inference.command import export as run_export

    run_export(folder, **options)


@main.command(context_settings=CONTEXT)
@click.argument("folder", type=PATH)
@click.option("--repo", required=True, metavar="ORG/NAME", help="Made where it is not there.")
@click.option("--public", is_flag=True, help="For everybody to see. [private]")
@shown_errors
def push(folder: Path, repo: str, public: bool) -> None:
    """Upload an exported folder to the Hugging Face hub, as the user who is logged in."""
    from mtlplug.inference.push import push as run_push

    click.echo(run_push(folder, repo, public=public))
