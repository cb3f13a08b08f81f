"""Compares the peak memory that is foretold for a run with what the run takes, on a CPU.

Every configuration is trained in a process of its own for one epoch of one step, and saved; its
peak is the largest resident set of that process (`ru_maxrss`). What `--dry-run` would say is noted
as the run itself foretells it.

Usage: python benchmarks/memory.py --data DATA_DIR --model MODEL_DIR --output FILE [--only NAME]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from transformers import AutoTokenizer, BertConfig, BertModel

SUITE = Path(__file__).parents[1] / "examples" / "suites" / "real_small.toml"

ROWS = 24
"""Rows of each split of the two QA tasks: together some 9,000 tokens of training, one step."""

SHAPES: dict[str, dict[str, int]] = {
    "narrow": {
        "hidden_size": 128,
        "num_hidden_layers": 12,
        "num_attention_heads": 4,
        "intermediate_size": 512,
    },
    "base": {},
}
"""Random BERT encoders beside the given one: a narrow one of many layers, and BERT-base's shape."""

MEASURES: dict[str, dict[str, Any]] = {
    "2048": {"max_tokens": 2048},
    "8192": {"max_tokens": 8192},
    "8192-checkpointing": {"max_tokens": 8192, "gradient_checkpointing": True},
}
"""Options of the runs."""

RUN = """
import json, resource, sys
from pathlib import Path
from mtlplug.training import pretrain
from mtlplug.workspace import open_workspace

options = json.loads(sys.argv[1])
for name in ("data", "output", "cache"):
    options[name] = Path(options[name])
foretell, noted = pretrain.foretell_memory, []

def noting(*arguments):
    noted.append(foretell(*arguments))
    return noted[0]

pretrain.foretell_memory = noting
pretrain.pretrain(open_workspace(options))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print("FOUND " + json.dumps({"foretold": noted[0].as_dict(), "measured": peak}))
"""


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--model", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="JSON file; cases are added.")
@click.option("--only", multiple=True, help="Only these cases, such as base-8192.")
def main(data: Path, model: Path, output: Path | None, only: tuple[str, ...]) -> None:
    """Foretell, train, compare."""
    found = json.loads(output.read_text(encoding="utf-8")) if output and output.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for shape in ("given", *SHAPES):
            for name, more in MEASURES.items():
                case = f"{shape}-{name}"
                if only and case not in only:
                    continue
                encoder = model if shape == "given" else made(shape, model, Path(folder))
                found[case] = measure(case, data, encoder, Path(folder), more)
                if output:
                    text = json.dumps(found, indent=1) + "\n"
                    output.write_text(text, encoding="utf-8")


def made(shape: str, model: Path, folder: Path) -> Path:
    """A random encoder of a shape, with the tokenizer of another."""
    place = folder / shape
    if not place.exists():
        tokenizer = AutoTokenizer.from_pretrained(model)
        tokenizer.save_pretrained(place)
        config = BertConfig(vocab_size=len(tokenizer), **SHAPES[shape])
        BertModel(config, add_pooling_layer=False).save_pretrained(place)
    return place


def measure(
    case: str, data: Path, encoder: Path, folder: Path, more: dict[str, Any]
) -> dict[str, Any]:
    """What was foretold and measured, in bytes."""
    options = {
        "groups": "QA",
        "suite": str(SUITE),
        "data": str(data),
        "model": str(encoder),
        "cache": str(folder / "cache"),
        "output": str(folder / "runs" / case),
        "max_rows_per_task": ROWS,
        "batch_size": 128,
        "max_epochs": 1,
        "precision": "fp32",
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(options)], capture_output=True, text=True
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    if not lines:
        sys.exit(done.stdout[-1000:] + done.stderr[-2000:])
    found: dict[str, Any] = json.loads(lines[0].removeprefix("FOUND "))
    found["ratio"] = round(found["foretold"]["peak"] / found["measured"], 3)
    print(
        f"{case}: {found['foretold']['tokens']:,} tokens, "
        f"foretold {found['foretold']['peak'] / 2**30:.2f} GiB, "
        f"measured {found['measured'] / 2**30:.2f} GiB, ratio {found['ratio']:.2f}",
        flush=True,
    )
    return found


if __name__ == "__main__":
    main()
