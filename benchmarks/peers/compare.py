"""mtlplug beside tasknet, machamp and transformers' Trainer: speed and validation loss.

All train the same encoder for one epoch on the same rows, in fp32 on the CPU, with AdamW, the
same learning rate decaying linearly, and batches of 128 (machamp: 32). The epoch is cut into
blocks, and the tools take turns, block by block, so that what else happens on the machine meets
all of them.
Reading and tokenising are not timed. See README.md beside this file.

Usage: python benchmarks/peers/compare.py --data DIR --model DIR [--machamp CHECKOUT]
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
from environments import HERE, UnavailableError, commit_of, python_of
from prepare import prepare
from report import OURS, complete, table
from rich.console import Console
from turns import Turn, take_turns
from worker import Job

from mtlplug.pages.typesetting import new_console
from mtlplug.processor import processor

PEERS = {"tasknet": ("SL+QA+C",), "machamp": ("SL+C",), "trainer": ("SL+QA+C", "SL+C")}
"""The mixes each peer is measured on; machamp has no question answering."""

SUITE = HERE.parents[1] / "examples" / "suites" / "real_small.toml"
RESULTS = HERE.parent / "results" / "peers.json"
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
BATCH_SIZE, MICRO_BATCH, MAX_LENGTH, SEED = 128, 32, 384, 13
SETTINGS = ("batch_size", "micro_batch", "max_length", "learning_rate", "threads", "seed")


@click.command()
@click.option("--data", required=True, type=FOLDER, help="Folder of the suite's files.")
@click.option("--model", required=True, type=FOLDER, help="Folder of a BERT-like encoder.")
@click.option("--machamp", type=FOLDER, help="A checkout of machamp.")
@click.option("--peers", default=",".join(PEERS), show_default=True, help="Some of the peers.")
@click.option("--examples", default=768, type=click.IntRange(2 * BATCH_SIZE), show_default=True,
              help="Rows of an epoch, about.")  # fmt: skip
@click.option("--rounds", default=4, type=click.IntRange(1), show_default=True,
              help="Blocks an epoch is cut into.")  # fmt: skip
@click.option("--threads", default=1, show_default=True, help="Threads of each tool.")
@click.option("--learning-rate", default=3e-4, show_default=True, help="Its peak.")
@click.option("--limit", default=300, show_default=True, help="Most seconds of one block.")
@click.option("--work", default=Path("runs/peers"), type=click.Path(path_type=Path),
              show_default=True, help="Environments, prepared data and logs.")  # fmt: skip
@click.option("--output", default=RESULTS, type=click.Path(path_type=Path), help="JSON file.")
def main(**options: Any) -> None:
    """Compare mtlplug with other tools."""
    started, console = time.perf_counter(), new_console()
    options |= {key: Path(options[key]).resolve() for key in ("data", "model", "work", "output")}
    peers = [name.strip() for name in options["peers"].split(",") if name.strip()]
    if not peers or set(peers) - set(PEERS):
        given = options["peers"]
        raise click.UsageError(f"--peers is '{given}'; choose from {', '.join(PEERS)}")
    pythons = {name: environment(name, options, console) for name in (OURS, *peers)}
    result: dict[str, Any] = {"command": command(), "machine": machine(), "mixes": {}}
    if options["machamp"]:
        result["machamp_commit"] = commit_of(options["machamp"])
    for mix in PEERS["trainer"]:
        present = [OURS, *(peer for peer in peers if mix in PEERS[peer])]
        if len(present) == 1:
            continue
        tools = {name: pythons[name] for name in present}
        result["mixes"][mix] = measured(mix, tools, options, console)
        result["seconds"] = round(time.perf_counter() - started, 1)
        write(options["output"], result)
        console.print(table(mix, result["mixes"][mix]))
    console.print(f"{result['seconds']:.0f} s in all; figures in {options['output']}")


def measured(
    mix: str, tools: dict[str, Path | str], options: dict[str, Any], console: Console
) -> dict[str, Any]:
    """One mix: all tools in turns, and the figures."""
    work = options["work"]
    job = make_job(mix, options)
    turns = {
        name: Turn(name, python, job, work, options["limit"]) for name, python in tools.items()
    }
    results = take_turns(turns, job.rounds, console)
    complete(results)
    return {
        "rows": sum(task["train_rows"] for task in job.tasks),
        "valid_rows": sum(task["valid_rows"] for task in job.tasks),
        "settings": {key: value for key, value in asdict(job).items() if key in SETTINGS},
        "tasks": list(job.tasks),
        "uniform_loss": uniform_loss(job),
        "tools": results,
    }


def environment(tool: str, options: dict[str, Any], console: Console) -> Path | str:
    """The interpreter of a tool, or the reason why there is none."""
    if tool == "machamp" and options["machamp"] is None:
        return "no checkout: give its folder with --machamp"
    try:
        with console.status(f"preparing the environment of {tool}"):
            return python_of(tool, options["work"])
    except UnavailableError as error:
        return str(error)


def make_job(mix: str, options: dict[str, Any]) -> Job:
    """Prepare the data of a mix and say what all tools are to do with it."""
    folder = options["work"] / "data" / mix
    job = Job(
        model=str(options["model"]), folder=str(folder), scratch="", mix=mix, tasks=[],
        batch_size=BATCH_SIZE, micro_batch=MICRO_BATCH, max_length=MAX_LENGTH,
        learning_rate=options["learning_rate"], rounds=options["rounds"],
        threads=options["threads"], seed=SEED,
        checkout=options["machamp"] and str(options["machamp"].resolve()),
    )  # fmt: skip
    tasks = prepare(folder, SUITE, options["data"], job, options["examples"])
    steps = sum(task["train_rows"] for task in tasks) // BATCH_SIZE
    # No tool has fewer steps; the first of them is a block of its own.
    return replace(job, tasks=tasks, rounds=min(job.rounds, steps - 1))


def uniform_loss(job: Job) -> float:
    """The validation loss of a model that finds all answers equally likely."""
    losses = {}
    for task in job.tasks:
        counts = [
            len(feature["reads"]) if task["format"] == "QA" else len(task["labels"])
            for feature in job.features("valid")
            if feature["task"] == task["name"]
        ]
        losses[task["name"]] = sum(map(math.log, counts)) / len(counts)
    return round(sum(losses.values()) / len(losses), 4)


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {
        "cpu": processor().name,
        "cores": os.cpu_count(),
        "platform": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def command() -> str:
    """The command line, long paths by their last two names."""
    parts = ("/".join(Path(part).parts[-2:]) if "/" in part else part for part in sys.argv[1:])
    return " ".join(["python benchmarks/peers/compare.py", *parts])


def write(path: Path, result: dict[str, Any]) -> None:
    """Write the figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
