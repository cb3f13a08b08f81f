"""How evenly a batch is split over ranks: at random, by tokens, and as this project does it.

Batches are drawn from the real datasets as in training. The load of a rank is its cost, tokens
and attention; what counts is the costliest rank over the mean, because it decides when a step
ends. No split can go below the bound: the costliest feature, or the two cheapest of the
`ranks + 1` costliest, of which two must meet.

Usage: python benchmarks/rank_balance.py --model DIR --data DIR --output FILE
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from mtlplug.batching.mixing import Members, Pool
from mtlplug.batching.packing import Packer
from mtlplug.batching.splitting import longest_first, split_over_ranks
from mtlplug.data.build import TRAIN
from mtlplug.data.parallel import build_all
from mtlplug.model.encoder import Encoder
from mtlplug.model.flops import encoder_flops
from mtlplug.processor import processor
from mtlplug.workspace import open_workspace

GROUPS = ("SL", "C", "QA", "SL+C", "SL+QA+C")
RANKS = (2, 4, 8, 16, 32, 64)
BATCH = 128
PER_RANK = 16
"""Features of a rank in the larger batches: those of the paper's 128 on 8 GPUs."""

Costs = npt.NDArray[np.float64]


@click.command()
@click.option("--model", required=True, help="Encoder whose tokenizer and width are used.")
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--suite", default="collection", show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of stored features.")
@click.option("--batches", default=300, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def main(
    model: str, data: Path, suite: str, cache: Path | None, batches: int, output: Path | None
) -> None:
    """Print and write the load of the costliest rank over the mean."""
    workspace = open_workspace({"model": model, "data": data, "suite": suite, "cache": cache})
    pair_cost = encoder_flops(Encoder.from_pretrained(model)).pair_cost
    rows = []
    for groups in GROUPS:
        tasks = workspace.suite.select(groups)
        formats = [workspace.plugins.formats[task.format] for task in tasks]
        jobs = list(zip(tasks, formats, strict=True))
        built = build_all(workspace.builder(), jobs, [TRAIN])
        stores = [each.stores[TRAIN] for each in built]
        packer = Packer(stores, formats, [1.0] * len(stores), 8192, pair_cost)
        for ranks in RANKS:
            for size in sorted({BATCH, PER_RANK * ranks} if ranks > 8 else {BATCH}):
                pool = Pool([len(store) for store in stores], size, seed=0)
                rows.append({"groups": groups, "ranks": ranks, "batch": size})
                rows[-1] |= measured(packer, pool, ranks, batches)
                print(line(rows[-1]), flush=True)
    result = {
        "command": "python benchmarks/rank_balance.py --model MODEL --data DATA --output FILE",
        "suite": suite,
        "model": Path(model).parts[-2:],
        "pair_cost": pair_cost,
        "batches": batches,
        "processor": processor().name,
        "rows": rows,
    }
    if output:
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measured(packer: Packer, pool: Pool, ranks: int, batches: int) -> dict[str, Any]:
    """Costliest rank over the mean, for every way of splitting, over many batches."""
    draw = np.random.default_rng(0)
    ways: dict[str, Callable[[Members], Any]] = {
        "random": lambda members: draw.integers(0, ranks, len(members)),
        "by_tokens": lambda members: longest_first(packer.lengths(members), ranks),
        "ours": lambda members: split_over_ranks(packer.costs(members), ranks),
    }
    found: dict[str, list[float]] = {way: [] for way in (*ways, "bound", "over_bound")}
    seconds: list[float] = []
    for members in drawn(pool, batches):
        costs_B = packer.costs(members)
        mean = costs_B.sum() / ranks
        for way, split in ways.items():
            found[way].append(costliest(costs_B, split(members), ranks) / mean)
        found["bound"].append(bound(costs_B, ranks) / mean)
        found["over_bound"].append(found["ours"][-1] / found["bound"][-1])
        started = time.thread_time()
        packer.plan(members, ranks)
        seconds.append(time.thread_time() - started)
    result: dict[str, Any] = {
        way: {
            "mean": round(float(np.mean(values)), 4),
            "p99": round(float(np.percentile(values, 99)), 4),
        }
        for way, values in found.items()
    }
    result["within_1_01_where_possible"] = share_within(found["ours"], found["bound"])
    return result | {"plan_milliseconds": round(1e3 * float(np.median(seconds)), 3)}


def drawn(pool: Pool, number: int) -> list[Members]:
    """The first full batches, of as many epochs as it takes."""
    full = len(pool) // pool.batch_size
    batches: list[Members] = []
    epoch = 0
    while len(batches) < number:
        batches += [members for members, _ in zip(pool.epoch(epoch), range(full), strict=False)]
        epoch += 1
    return batches[:number]


def costliest(costs_B: Costs, split: Any, ranks: int) -> float:
    """The largest load of a rank; a split is the rank of each feature or the features of each."""
    if isinstance(split, list):
        return float(max(costs_B[share].sum() for share in split))
    return float(np.bincount(split, costs_B, ranks).max())


def bound(costs_B: Costs, ranks: int) -> float:
    """A load that the costliest rank cannot go below."""
    falling = -np.sort(-costs_B)
    meeting = falling[ranks - 1] + falling[ranks] if len(falling) > ranks else 0.0
    return float(max(costs_B.sum() / ranks, falling[0], meeting))


def share_within(ours: list[float], bounds: list[float]) -> float | None:
    """Share of the batches within 1.01, of those whose bound allows it; None where none does."""
    possible = [mine <= 1.01 for mine, least in zip(ours, bounds, strict=True) if least <= 1.01]
    return round(float(np.mean(possible)), 4) if possible else None


def line(row: dict[str, Any]) -> str:
    """One row for people: means, and the 99th percentile in brackets."""
    ways = ("random", "by_tokens", "ours", "bound")
    cells = [f"{way} {row[way]['mean']:.4f} ({row[way]['p99']:.4f})" for way in ways]
    head = f"{row['groups']:8} {row['ranks']:3} ranks, batch {row['batch']:5}: "
    within = f"  within 1.01 where possible: {row['within_1_01_where_possible']}"
    return f"{head}{'  '.join(cells)}{within}  {row['plan_milliseconds']:.2f} ms"


if __name__ == "__main__":
    main()
