"""What building one batch costs: this project's stores beside rows of an Arrow dataset.

The same 128 features of the same batches, tokenised before: as the loader of one rank lays them
out (plan, records, packed stream, rows and targets of the heads; and with these cut by task, which
the step does where the heads run), and as Arrow rows fetched one
by one (`datasets`, `dataset[i]`) or task by task (`dataset[indices]`), padded to the longest of
the batch. Arrow's columns are the ids and types alone: it makes no rows and targets of heads.
Processor time of the calling thread, interleaved batch by batch.

Usage: OMP_NUM_THREADS=1 python benchmarks/batch_cost.py --model DIR --data DIR --output FILE
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import datasets
import numpy as np
import torch
from torch import Tensor

from mtlplug.batching.loader import Loader
from mtlplug.batching.mixing import Members, Pool
from mtlplug.batching.packing import Packer
from mtlplug.data.build import TRAIN
from mtlplug.data.parallel import build_all
from mtlplug.data.store import FeatureStore
from mtlplug.processor import processor
from mtlplug.workspace import open_workspace
from mtlplug.world import World

GROUPS = ("SL", "C", "QA", "SL+C", "SL+QA", "QA+C", "SL+QA+C")
COLUMNS = ("ids", "types")
PACKAGES = ("torch", "numpy", "datasets", "pyarrow")


@click.command()
@click.option("--model", required=True, help="Encoder whose tokenizer is used.")
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--suite", default="collection", show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of stored features.")
@click.option("--batches", default=200, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def main(
    model: str, data: Path, suite: str, cache: Path | None, batches: int, output: Path | None
) -> None:
    """Print and write milliseconds for a batch of 128 features."""
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    workspace = open_workspace({"model": model, "data": data, "suite": suite, "cache": cache})
    tasks = workspace.suite.select("SL+QA+C")
    formats = workspace.plugins.formats
    built = build_all(
        workspace.builder(), [(task, formats[task.format]) for task in tasks], [TRAIN]
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        arrow = {each.task.name: as_arrow(each.stores[TRAIN], Path(folder)) for each in built}
        for groups in GROUPS:
            names = {task.name for task in workspace.suite.select(groups)}
            chosen = [each for each in built if each.task.name in names]
            stores = [each.stores[TRAIN] for each in chosen]
            packer = Packer(stores, [each.format for each in chosen], [1.0] * len(chosen), 8192)
            pool = Pool([len(store) for store in stores], 128, seed=0)
            sets = [arrow[each.task.name] for each in chosen]
            rows.append(
                {"groups": groups, "tasks": len(chosen)} | measured(packer, pool, sets, batches)
            )
            print(rows[-1], flush=True)
    result = {
        "command": "python benchmarks/batch_cost.py --model MODEL --data DATA --output FILE",
        "suite": suite,
        "batch": 128,
        "batches": batches,
        "processor": processor().name,
        "versions": {name: version(name) for name in PACKAGES},
        "milliseconds": rows,
    }
    if output:
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measured(
    packer: Packer, pool: Pool, sets: Sequence[datasets.Dataset], batches: int
) -> dict[str, Any]:
    """Milliseconds of each way over the same batches: median, and the quickest."""
    loader = Loader(packer, World(0, 1, torch.device("cpu")), in_step=False)
    ways: dict[str, Callable[[Members], Any]] = {
        "ours": loader.step,
        "ours_with_the_cut_by_task": lambda members: [
            micro_batch.tasks for micro_batch in loader.step(members).micro_batches
        ],
        "plan_only": lambda members: packer.plan(members, 1),
        "arrow_row_by_row": lambda members: padded(one_by_one(sets, members)),
        "arrow_by_task": lambda members: padded(task_by_task(sets, members)),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for members, _ in zip(pool.epoch(0), range(batches), strict=False):
        for way, make in ways.items():
            make(members)  # pages and caches as they are in a running loop
            started = time.thread_time()
            make(members)
            seconds[way].append(time.thread_time() - started)
    return {
        way: {
            "median": round(1e3 * float(np.median(values)), 3),
            "least": round(1e3 * min(values), 3),
        }
        for way, values in seconds.items()
    }


def as_arrow(store: FeatureStore, folder: Path) -> datasets.Dataset:
    """The token ids and types of a store as an Arrow file, read by memory map."""
    place = folder / store.folder.name
    columns: dict[str, list[Any]] = {column: [] for column in COLUMNS}
    for number in range(len(store)):
        for column, values in zip(COLUMNS, store.feature(number).tokens(), strict=True):
            columns[column].append(values)
    datasets.Dataset.from_dict(columns).save_to_disk(place)
    return datasets.load_from_disk(place)


def one_by_one(sets: Sequence[datasets.Dataset], members: Members) -> list[dict[str, list[int]]]:
    """The rows of a batch, each asked for alone, as a map-style loader does."""
    places = zip(members.tasks_B.tolist(), members.features_B.tolist(), strict=True)
    return [sets[task][feature] for task, feature in places]


def task_by_task(sets: Sequence[datasets.Dataset], members: Members) -> list[dict[str, list[int]]]:
    """The rows of a batch, those of a task asked for together."""
    rows = []
    for task in np.unique(members.tasks_B).tolist():
        found = sets[task][members.features_B[members.tasks_B == task].tolist()]
        rows += [
            dict(zip(COLUMNS, each, strict=True)) for each in zip(*found.values(), strict=True)
        ]
    return rows


def padded(rows: Sequence[dict[str, list[int]]]) -> dict[str, Tensor]:
    """Rows padded to the longest, with the mask."""
    longest = max(len(row["ids"]) for row in rows)
    batch = {
        column: torch.tensor([row[column] + [0] * (longest - len(row[column])) for row in rows])
        for column in COLUMNS
    }
    sizes = torch.tensor([len(row["ids"]) for row in rows])
    return batch | {"mask": torch.arange(longest)[None] < sizes[:, None]}


if __name__ == "__main__":
    main()
