"""What the commands share: options, and errors shown as one sentence."""

from __future__ import annotations

import functools
import logging
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from mtlplug.completion import complete_suites
from mtlplug.config import ALIASES
from mtlplug.errors import MtlplugError, StoppedError
from mtlplug.option_values import Numbers, pairs, tables
from mtlplug.plugin_sources import give

Command = TypeVar("Command", bound=Callable[..., Any])

STOPPED = 3
"""Exit code of what was interrupted and can go on."""

PATH = click.Path(path_type=Path)

CONTEXT = {
    # `--max_epochs` is `--max-epochs`: launchers and scripts write either.
    "token_normalize_func": lambda token: token.replace("_", "-"),
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
}


SECONDS_BEHIND = 10.0
"""For which ranks wait that would say the same as the first one of their host.

A launcher ends them when it has ended; when it goes on, the mistake is theirs alone.
"""


class Shown(click.ClickException):
    """A user's mistake: one sentence, exit code 2, said once on each host."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the sentence."""
        if os.environ.get("LOCAL_RANK", "0") != "0":
            time.sleep(SECONDS_BEHIND)
        rank = os.environ.get("RANK", "0")
        place = "" if rank == "0" else f"rank {rank} on {platform.node()}: "
        click.echo(f"error: {place}{self.message}", file=file or sys.stderr)


plugin_option = click.option(
    "-p",
    "given",
    multiple=True,
    metavar="PLUGIN",
    expose_value=False,
    callback=lambda _, __, values: give(values),
    help="Load a .py file or module as a plugin; no:NAME switches one off. May be repeated.",
)


def shown_errors(command: Command) -> Command:
    """Turn a `MtlplugError` into one sentence and exit code 2, a `StoppedError` into 3.

    Every such command takes `-p`.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        level = logging.WARNING if os.environ.get("RANK", "0") == "0" else logging.ERROR
        logging.basicConfig(format="%(levelname)s: %(message)s", level=level)
        try:
            return command(*args, **kwargs)
        except MtlplugError as error:
            raise Shown(str(error)) from error
        except StoppedError:
            sys.exit(STOPPED)

    return plugin_option(wrapped)  # type: ignore[return-value]


def named(name: str, **settings: Any) -> Callable[[Command], Command]:
    """An option of a run under our name and those of transformers' example scripts."""
    others = [alias for alias, ours in ALIASES.items() if ours == name.replace("-", "_")]
    return click.option(*(f"--{each.replace('_', '-')}" for each in (name, *others)), **settings)


def suite_options(command: Command) -> Command:
    """The options that say which tasks, where their data is, and which encoder reads them."""
    return _given(
        command,
        click.option(
            "--suite",
            metavar="NAME_OR_TOML",
            shell_complete=complete_suites,
            help="Tasks and groups. [demo]",
        ),
        click.option("--data", type=PATH, help="Folder the suite's relative paths start from."),
        named("model", metavar="DIR_OR_ID", help="Pretrained encoder. [the suite's]"),
        named(
            "max-length",
            type=int,
            help="Most tokens of a sequence; QA has its own option (384). [512]",
        ),
        click.option("--max-rows-per-task", type=int, help="Most rows of each split. [all]"),
        click.option("--cache", type=PATH, help="Folder of stored features."),
        click.option("--config", type=PATH, metavar="TOML", help="A file of options of a run."),
        click.option(
            "--set",
            multiple=True,
            callback=tables,
            metavar="KEY=VALUE",
            help="An option, or tasks.NAME.KEY of the suite; may be repeated.",
        ),
    )


def step_options(command: Command) -> Command:
    """The options that say how a step is taken."""
    return _given(
        command,
        click.option("--precision", help="fp32, bf16 or fp16. [what suits the machine]"),
        click.option("--batch-size", type=int, help="Features of a step, all ranks. [128]"),
        click.option("--max-tokens", type=int, help="Most tokens of a micro-batch. [8192]"),
        click.option(
            "--mix",
            metavar="NAME[:PARAMETER]",
            help="How often each task comes: proportional, uniform, temperature:T, capped:K, "
            "weights:TASK=W,..., or a plugin's. [proportional]",
        ),
        named("deepspeed-config", type=PATH, help="A DeepSpeed JSON. [ZeRO-1]"),
        click.option(
            "--gradient-checkpointing",
            is_flag=True,
            default=None,
            help="Less memory, more compute.",
        ),
        click.option(
            "--cuda-graphs/--no-cuda-graphs",
            default=None,
            help="On a GPU, launch the encoder's passes as graphs. [on]",
        ),
    )


def steps_of_trainer(command: Command) -> Command:
    """Options of transformers' example scripts that say together what `--batch-size` says."""

    @functools.wraps(command)
    def wrapped(*args: Any, **options: Any) -> Any:
        each = options.pop("per_device_train_batch_size")
        times = options.pop("gradient_accumulation_steps")
        if each is not None and options["batch_size"] is not None:
            raise click.UsageError("--batch-size and --per-device-train-batch-size; give one")
        if each is None and times is not None:
            raise click.UsageError(
                "--gradient-accumulation-steps without --per-device-train-batch-size; "
                "micro-batches are cut by --max-tokens, so give --batch-size"
            )
        if each is not None:
            ranks = int(os.environ.get("WORLD_SIZE", "1"))
            options["batch_size"] = each * ranks * (times or 1)
        return command(*args, **options)

    return _given(  # type: ignore[return-value]
        wrapped,
        click.option(
            "--per-device-train-batch-size",
            type=click.IntRange(1),
            help="Instead of --batch-size: times ranks and --gradient-accumulation-steps.",
        ),
        click.option("--gradient-accumulation-steps", type=click.IntRange(1), help="See there."),
    )


def study_options(command: Command) -> Command:
    """The options that say what a study consists of."""
    return _given(
        command,
        click.argument("suite", default="demo"),
        click.option("--output", type=PATH, help="Folder of the study. [studies/SUITE]"),
        click.option("--groups", help="Combinations separated by commas: SL,SL+C. [all]"),
        click.option("--targets", help="Tasks to finetune on, by commas. [the suite's]"),
        click.option(
            "--pretrain",
            multiple=True,
            callback=pairs,
            metavar="KEY=VALUE",
            help="An option of mtlplug run for pre-finetuning; may be repeated.",
        ),
        click.option("--model", metavar="DIR_OR_ID", help="Pretrained encoder. [the suite's]"),
        *_of_finetuning(),
        click.option("--price", type=float, help="Price of an hour of one worker."),
    )


def finetune_options(command: Command) -> Command:
    """The options of finetuning runs of one encoder."""
    return _given(
        command,
        click.option("--suite", metavar="NAME_OR_TOML", help="Where the task is. [demo]"),
        click.option("--output", type=PATH, help="Folder. [finetunes/ENCODER-TASK]"),
        *_of_finetuning(),
    )


def worker_options(command: Command) -> Command:
    """The options that say where cells run."""
    return _given(
        command,
        click.option(
            "--workers", type=click.IntRange(1), help="Cells at a time. [one a GPU, or a core]"
        ),
        click.option("--per-gpu", type=click.IntRange(1), help="Cells that share a GPU. [1]"),
        click.option(
            "--executor", default="local", show_default=True, help="local, ray, or a plugin's."
        ),
        click.option("--address", help="Of a cluster, for the executor."),
        click.option("--retry", is_flag=True, help="Try failed cells again."),
    )


def _of_finetuning() -> list[Callable[[Command], Command]]:
    """What a study and a single finetuning share."""
    return [
        click.option("--rates", type=Numbers(float), help="Learning rates of the sweep."),
        click.option("--seeds", type=Numbers(int), help="Seeds; the first is the sweep's."),
        click.option(
            "--finetune",
            multiple=True,
            callback=pairs,
            metavar="KEY=VALUE",
            help="An option of mtlplug run for finetuning; may be repeated.",
        ),
        click.option("--data", type=PATH, help="Folder the suite's relative paths start from."),
        click.option("--cache", type=PATH, help="Folder of stored features."),
        click.option("--precision", help="fp32, bf16 or fp16. [what suits the machine]"),
        click.option(
            "--max-length",
            type=int,
            help="Most tokens of a sequence; QA has its own option (384). [512]",
        ),
        click.option("--max-rows-per-task", type=int, help="Most rows of each split. [all]"),
        click.option(
            "--threads", type=click.IntRange(1), help="Threads of each worker on a CPU. [1]"
        ),
    ]


def _given(command: Command, *options: Callable[[Command], Command]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
