"""Compares the peak memory that `--dry-run` foretells with what runs take on a CPU.

Every configuration is foretold in one process and trained in another, for one epoch of one step;
the peak is the largest resident set of that process (`ru_maxrss`).

Usage: python benchmarks/memory.py --data DATA_DIR --model MODEL_DIR --output FILE [--only NAME]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from transformers import AutoTokenizer, BertConfig, BertModel

SUITE = Path(__file__).parents[1] / "examples" / "suites" / "real_small.toml"

ROWS = 24
"""Rows of each split of each task: together some 9,000 tokens of training, one step."""

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "minilm-2048": ("minilm", {"max_tokens": 2048}),
    "minilm-8192": ("minilm", {"max_tokens": 8192}),
    "minilm-8192-checkpointing": ("minilm", {"max_tokens": 8192, "gradient_checkpointing": True}),
    "base-2048": ("base", {"max_tokens": 2048}),
    "base-8192": ("base", {"max_tokens": 8192}),
    "base-8192-checkpointing": ("base", {"max_tokens": 8192, "gradient_checkpointing": True}),
}
"""Encoder and options; `base` is a random BERT of twelve layers of width 768."""

FORETELL = """
import json, sys
from pathlib import Path
from mtlplug.training.preview import preview
options = json.loads(sys.argv[1])
for name in ("data", "output", "cache"):
    options[name] = Path(options[name])
print("FOUND " + json.dumps(preview(options, rows=0)["memory"]))
"""


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--model", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="Write the figures as JSON.")
@click.option("--only", multiple=True, help="Only these cases.")
def main(data: Path, model: Path, output: Path | None, only: tuple[str, ...]) -> None:
    """Foretell, train, compare."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        encoders = {"minilm": model, "base": base(model, Path(folder) / "base")}
        for name, (encoder, more) in CASES.items():
            if only and name not in only:
                continue
            options = {
                "groups": "QA",
                "suite": str(SUITE),
                "data": str(data),
                "model": str(encoders[encoder]),
                "cache": str(Path(folder) / "cache"),
                "output": str(Path(folder) / name),
                "max_rows_per_task": ROWS,
                "batch_size": 128,
                "max_epochs": 1,
                "precision": "fp32",
                **more,
            }
            foretold, measured = foretell(options), train(options)
            ratio = foretold["peak"] / measured
            found[name] = {"foretold": foretold, "measured": measured, "ratio": round(ratio, 3)}
            print(
                f"{name}: {foretold['tokens']:,} tokens, foretold {foretold['peak'] / 2**30:.2f} "
                f"GiB, measured {measured / 2**30:.2f} GiB, ratio {ratio:.2f}",
                flush=True,
            )
    if output:
        output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def base(model: Path, folder: Path) -> Path:
    """A random encoder of BERT-base's shape with the tokenizer of another."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.save_pretrained(folder)
    config = BertConfig(vocab_size=len(tokenizer))
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def foretell(options: dict[str, Any]) -> dict[str, float]:
    """What the dry run says, in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", FORETELL, json.dumps(options)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    if not lines:
        sys.exit(done.stdout[-1000:] + done.stderr[-2000:])
    memory: dict[str, float] = json.loads(lines[0].removeprefix("FOUND "))
    return memory


def train(options: dict[str, Any]) -> int:
    """Peak memory of a run, in bytes."""
    values = {name: str(value) for name, value in options.items() if value is not True}
    arguments = [each for name, value in values.items() for each in (f"--{name}", value)]
    arguments += [f"--{name}" for name, value in options.items() if value is True]
    process = subprocess.Popen(
        [sys.executable, "-m", "mtlplug", "run", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"the run ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
