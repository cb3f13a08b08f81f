"""How long the features of one large split take to make, by one process and by several.

`build_all` with an empty cache, once with no helper and once with as many processes as asked for,
in turns; helpers start at once (a run waits four seconds, `parallel.PATIENCE`). The stores must be
equal, byte by byte. Wall seconds, and CPU seconds of all processes.

Usage: OMP_NUM_THREADS=1 python benchmarks/tokenising.py --model DIR --data DIR --output FILE
"""

from __future__ import annotations

import json
import resource
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import click

from mtlplug.data import parallel
from mtlplug.data.build import TRAIN
from mtlplug.data.store import FeatureStore
from mtlplug.processor import processor
from mtlplug.workspace import open_workspace

TASKS = ("sst2", "gmb", "naturalquestions")
"""The largest split of each format in the suite `collection`."""


@click.command()
@click.option("--model", required=True, help="Encoder whose tokenizer is used.")
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--suite", default="collection", show_default=True)
@click.option("--task", "tasks", multiple=True, default=TASKS, show_default=True)
@click.option("--processes", default=2, show_default=True)
@click.option("--turns", default=3, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def main(
    model: str, data: Path, suite: str, tasks: tuple[str, ...], processes: int, turns: int,
    output: Path | None,
) -> None:  # fmt: skip
    """Print and write seconds of each task, by one process and by several."""
    parallel.PATIENCE = 0.0
    rows = []
    for name in tasks:
        options = {"model": model, "data": data, "suite": suite}
        spent: dict[int, list[tuple[float, float]]] = {1: [], processes: []}
        for turn in range(turns):
            order = (1, processes) if turn % 2 else (processes, 1)
            with tempfile.TemporaryDirectory() as folder:
                stores = {n: built(options, name, n, Path(folder) / str(n), spent) for n in order}
                check_equal(stores[1], stores[processes])
                features = len(stores[1])
        wall = {n: median(each[0] for each in times) for n, times in spent.items()}
        cpu = {n: median(each[1] for each in times) for n, times in spent.items()}
        ratios = [a[0] / b[0] for a, b in zip(spent[1], spent[processes], strict=True)]
        rows.append(
            {
                "task": name,
                "rows": stores[1].meta["rows"],
                "features": features,
                "seconds": {str(n): round(value, 2) for n, value in wall.items()},
                "cpu_seconds": {str(n): round(value, 2) for n, value in cpu.items()},
                "times_as_fast": [round(ratio, 2) for ratio in sorted(ratios)],
            }
        )
        print(rows[-1], flush=True)
    result = {
        "command": "python benchmarks/tokenising.py --model MODEL --data DATA --output FILE",
        "processor": processor().name,
        "processes": processes,
        "turns": turns,
        "tasks": rows,
    }
    if output:
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def built(
    options: dict[str, Any], name: str, processes: int, cache: Path,
    spent: dict[int, list[tuple[float, float]]],
) -> FeatureStore:  # fmt: skip
    """The training split's store, made anew; its seconds are noted."""
    workspace = open_workspace({**options, "cache": cache})
    (task,) = workspace.suite.select(name)
    builder = workspace.builder()
    parallel.MOST_HELPERS = processes - 1
    parallel.spare_cores = lambda: processes - 1
    shutil.rmtree(cache, ignore_errors=True)
    before, started = cpu_seconds(), time.perf_counter()
    job = (task, workspace.plugins.formats[task.format])
    (data,) = parallel.build_all(builder, [job], [TRAIN], lambda *_: None)
    spent[processes].append((time.perf_counter() - started, cpu_seconds() - before))
    return data.stores[TRAIN]


def cpu_seconds() -> float:
    """Of this process and of those it has waited for."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def check_equal(one: FeatureStore, other: FeatureStore) -> None:
    """Stop where two stores differ."""
    for file in one.folder.iterdir():
        if (other.folder / file.name).read_bytes() != file.read_bytes():
            raise SystemExit(f"{file.name} of {one.folder.name} differs")


if __name__ == "__main__":
    main()
