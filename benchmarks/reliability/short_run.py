"""A short run of every format, for campaigns that start hundreds of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def options(place: Path, *, epochs: int, save_minutes: float) -> list[str]:
    """Make tiny data and a tiny encoder; the options of a run on them, all but the output.

    Args:
        place: a folder for them.
        epochs: of nine steps each.
        save_minutes: between checkpoints.
    """
    from tests import small_suite, toy

    suite = small_suite.write(place / "suite")
    # With dropout, so that the state of the random generators shows.
    toy.encoder(dropout=0.1).save(place / "suite" / "model", toy.tokenizer())
    return [
        *("--groups", "SL+QA+C", "--suite", str(suite), "--cache", str(place / "cache")),
        *("--max-epochs", str(epochs), "--patience", str(epochs), "--log-every", "1"),
        *("--save-minutes", str(save_minutes)),
    ]


def forked(arguments: list[str], log: Path, **environment: str) -> int:
    """`mtlplug run` in a process of its own, from one that has imported everything.

    Args:
        arguments: of the command.
        log: to which all it prints is added.
        environment: more variables of it.

    Returns:
        The process.
    """
    from transformers.models.bert import modeling_bert  # noqa: F401

    import mtlplug.training.pretrain  # noqa: F401
    from mtlplug.cli import run
    from mtlplug.plugin_manager import load_plugins

    load_plugins()
    sys.stdout.flush()
    if process := os.fork():
        return process
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(environment)
    try:
        run(arguments, standalone_mode=True)
    except SystemExit as end:
        os._exit(int(end.code or 0))
    finally:
        os._exit(70)
