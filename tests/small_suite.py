"""A suite of a few rows of every built-in format on disk, and commands run on it in-process."""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

from click.testing import CliRunner, Result

from mtlplug.cli import main
from tests import toy

SUITE = """\
title = "three tiny tasks"

[defaults]
model = "model"
precision = "fp32"
batch_size = 8
max_length = 48
max_epochs = 2
learning_rate = 1e-3
log_every = 2

[groups]
words = ["tags", "kinds"]

[tasks.tags]
format = "SL"
train = "tags/train.conll"
valid = "tags/valid.conll"

[tasks.spans]
format = "QA"
train = "spans/train.json"
valid = "spans/valid.json"
options = { max_length = 40, stride = 8, max_question = 8 }

[tasks.kinds]
format = "C"
train = "kinds/train.tsv"
valid = "kinds/valid.tsv"
columns = { text = "sentence", label = "kind" }
"""

ROWS = {"train": 24, "valid": 8}
LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a run in this process puts into the environment, and no other process may inherit."""


def write(folder: Path) -> Path:
    """Write data, encoder and suite file; the same bytes at every call."""
    for split, rows in ROWS.items():
        draw = random.Random(split)
        sentences = [[draw.choice(toy.WORDS) for _ in range(6 + n % 5)] for n in range(rows)]
        for task in ("tags", "spans", "kinds"):
            (folder / task).mkdir(parents=True, exist_ok=True)
        # What is to be predicted follows from the words, so that it can be learnt.
        tags = [[f"{word} {'B-LOW' if len(word) == 2 else 'O'}" for word in s] for s in sentences]
        (folder / "tags" / f"{split}.conll").write_text(
            "\n\n".join("\n".join(lines) for lines in tags) + "\n"
        )
        kinds = [f"{' '.join(s)}\t{'even' if int(s[0][1:]) % 2 == 0 else 'odd'}" for s in sentences]
        (folder / "kinds" / f"{split}.tsv").write_text("\n".join(["sentence\tkind", *kinds]) + "\n")
        (folder / "spans" / f"{split}.json").write_text(json.dumps({"data": _squad(sentences)}))
    toy.encoder().save(folder / "model", toy.tokenizer())
    suite = folder / "tiny.toml"
    suite.write_text(SUITE)
    return suite


def _squad(sentences: list[list[str]]) -> list[dict[str, object]]:
    return [
        {
            "title": "",
            "paragraphs": [
                {
                    "context": " ".join(words),
                    "qas": [
                        {
                            "id": str(number),
                            "question": f"{words[1]} ?",
                            "answers": [{"text": words[1], "answer_start": len(words[0]) + 1}],
                        }
                    ],
                }
            ],
        }
        for number, words in enumerate(sentences)
    ]


def command(*arguments: str | Path) -> Result:
    """Run a command in this process; the environment stays as it was."""
    with patch.dict(os.environ):
        return CliRunner().invoke(main, [str(argument) for argument in arguments])


def outside(**more: str) -> Mapping[str, str]:
    """The environment for a process of its own."""
    return {key: value for key, value in os.environ.items() if key not in LAUNCHER} | more


def free_port() -> str:
    """A port that nobody listens on, below those that the system gives to connections.

    A launcher takes seconds until it listens there; meanwhile tests run in other processes.
    """
    while True:
        port = random.SystemRandom().randint(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return str(port)
