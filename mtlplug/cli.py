"""The command line. Torch is imported only inside commands, so that `--help` answers at once."""

from __future__ import annotations

import functools
import logging
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from mtlplug import __version__
from mtlplug.errors import MtlplugError

Command = TypeVar("Command", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)

CONTEXT = {
    # `--max_epochs` is `--max-epochs`: launchers and scripts write either.
    "token_normalize_func": lambda token: token.replace("_", "-"),
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
}


class Shown(click.ClickException):
    """A user's mistake: one sentence, exit code 2, said once on each host."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the sentence."""
        rank = os.environ.get("RANK", "0")
        if os.environ.get("LOCAL_RANK", "0") == "0":
            place = "" if rank == "0" else f"rank {rank} on {platform.node()}: "
            click.echo(f"error: {place}{self.message}", file=file or sys.stderr)


def shown_errors(command: Command) -> Command:
    """Turn a `MtlplugError` into one sentence and exit code 2."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        level = logging.WARNING if os.environ.get("RANK", "0") == "0" else logging.ERROR
        logging.basicConfig(format="%(levelname)s: %(message)s", level=level)
        try:
            return command(*args, **kwargs)
        except MtlplugError as error:
            raise Shown(str(error)) from error

    return wrapped  # type: ignore[return-value]


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="mtlplug")
@click.option("--local-rank", type=int, hidden=True, expose_value=False)
def main() -> None:
    """Multi-task pre-finetuning of shared text encoders."""


def suite_options(command: Command) -> Command:
    """The options that say which tasks, where their data is, and which encoder reads them."""
    for option in reversed(
        [
            click.option("--suite", metavar="NAME_OR_TOML", help="Tasks and groups. [demo]"),
            click.option("--data", type=PATH, help="Folder the suite's relative paths start from."),
            click.option("--model", metavar="DIR_OR_ID", help="Pretrained encoder. [the suite's]"),
            click.option("--max-length", type=int, help="Most tokens of a sequence. [512]"),
            click.option("--max-rows-per-task", type=int, help="Most rows of each split. [all]"),
            click.option("--cache", type=PATH, help="Folder of stored features."),
        ]
    ):
        command = option(command)
    return command


def step_options(command: Command) -> Command:
    """The options that say how a step is taken."""
    for option in reversed(
        [
            click.option("--precision", help="fp32, bf16 or fp16. [what suits the machine]"),
            click.option("--batch-size", type=int, help="Features of a step, all ranks. [128]"),
            click.option("--max-tokens", type=int, help="Most tokens of a micro-batch. [8192]"),
            click.option("--deepspeed-config", type=PATH, help="A DeepSpeed JSON. [ZeRO-1]"),
            click.option(
                "--gradient-checkpointing",
                is_flag=True,
                default=None,
                help="Less memory, more compute.",
            ),
        ]
    ):
        command = option(command)
    return command


@main.command(context_settings=CONTEXT)
@click.option("--groups", required=True, help="What to train on: groups or tasks joined by '+'.")
@suite_options
@click.option("--output", type=PATH, help="Folder of the run. [runs/SUITE-GROUPS]")
@click.option("--seed", type=int, help="Of the mix, new heads and dropout. [13]")
@step_options
@click.option("--max-epochs", type=int, help="Epochs at the most. [10]")
@click.option("--patience", type=int, help="Epochs without improvement before stopping. [3]")
@click.option("--learning-rate", type=float, help="Peak learning rate of AdamW. [5e-5]")
@click.option("--warmup-ratio", type=float, help="Share of steps the rate rises over. [0]")
@click.option("--weight-decay", type=float, help="AdamW's weight decay. [0]")
@click.option("--gradient-clipping", type=float, help="Largest gradient norm; 0: none. [1]")
@click.option("--log-every", type=int, help="Steps between lines of metrics.jsonl. [10]")
@click.option("--overwrite", is_flag=True, default=None, help="Start over in a used folder.")
@click.option("--local-rank", type=int, hidden=True, help="Set by the deepspeed launcher.")
@shown_errors
def run(local_rank: int | None, **options: Any) -> None:
    """Pre-finetune one encoder on groups of tasks.

    Under a launcher: `deepspeed mtlplug/run.py --groups SL+C`. Run again on the same output
    folder, it goes on where it was interrupted.
    """
    if local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(local_rank))
    from mtlplug.training.pretrain import pretrain

    pretrain(options)


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
@click.option("--groups", help="Only these groups or tasks. [all tasks of the suite]")
@suite_options
@shown_errors
def tasks(groups: str | None, **options: Any) -> None:
    """List a suite's tasks: rows, labels, token lengths, what was cut or repaired."""
    from mtlplug.listing import list_tasks

    list_tasks(groups, options)


@main.command(context_settings=CONTEXT)
@click.argument("task")
@click.option("-n", "--number", type=int, default=3, show_default=True, help="How many rows.")
@click.option("--split", default="train", show_default=True, help="Of which split.")
@suite_options
@shown_errors
def inspect(task: str, number: int, split: str, **options: Any) -> None:
    """Show rows of a task as the model sees them: tokens, reads, targets."""
    from mtlplug.listing import inspect_task

    inspect_task(task, split, number, options)


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
@shown_errors
def plugins() -> None:
    """List the installed plugins and the task formats they bring."""
    from mtlplug.listing import list_plugins

    list_plugins()
