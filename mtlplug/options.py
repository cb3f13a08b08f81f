"""What the commands share: options, and errors shown as one sentence."""

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
