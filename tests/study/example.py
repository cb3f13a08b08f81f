"""A study that nobody ran, with figures of the size that real ones have."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mtlplug.study.results import (
    BASELINE,
    DONE,
    FAILED,
    MISSING,
    Column,
    Results,
    Target,
    Trial,
    best_rate,
)

COLUMNS = ("SL", "C", "QA", "SL+C", "SL+QA", "QA+C", "SL+QA+C")

RATES = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5)

TARGETS = (
    ("wnut17", "SL", "entity F1", 41.0), ("movie", "SL", "entity F1", 71.0),
    ("re3d", "SL", "entity F1", 52.0), ("ncbi_disease", "SL", "entity F1", 79.0),
    ("squad_adversarial", "QA", "F1", 55.0), ("qed", "QA", "F1", 61.0),
    ("xquad_en", "QA", "F1", 66.0), ("subjqa_books", "QA", "F1", 38.0),
    ("boolq", "C", "accuracy", 66.0), ("cb", "C", "F1", 71.0),
    ("copa", "C", "accuracy", 54.0), ("wic", "C", "accuracy", 61.0),
)  # fmt: skip

OUT_OF_MEMORY = """Traceback (most recent call last):
  File "mtlplug/training/loop.py", line 88, in step
    engine.backward(loss)
torch.OutOfMemoryError: tried to allocate 2.00 GiB"""


def example(
    columns: Sequence[str] = COLUMNS,
    targets: Sequence[tuple[str, str, str, float]] = TARGETS,
    seeds: Sequence[int] = (1, 2, 3),
    rates: Sequence[float] = RATES,
    states: Mapping[tuple[str, str], str] | None = None,
    price: float | None = None,
    chance: int = 7,
) -> Results:
    """A study in which more groups help, and the groups of a target most.

    Args:
        columns: beside the baseline.
        targets: name, group, metric and the baseline's score.
        seeds, rates: of it.
        states: of (target, column) that are not done.
        price: of an hour.
        chance: seed of the figures.
    """
    draw = random.Random(chance)
    names = (BASELINE, *columns)
    return Results(
        suite="padmakumar2022",
        title="Pre-finetuning on combinations of task formats",
        model="all-MiniLM-L6-v2 (22.6 M parameters)",
        columns=tuple(_column(name, draw) for name in names),
        targets=tuple(_target(*target[:3], start=target[3]) for target in targets),
        trials=tuple(
            trial
            for name, group, _, start in targets
            for column in names
            for trial in _cell(name, group, column, start, seeds, rates, states or {}, draw)
        ),
        rates=tuple(rates),
        seeds=tuple(seeds),
        price=price,
        facts={
            "when": "2026-11-21 09:14 to 2026-11-23 02:40",
            "machine": {"cpu": "AMD EPYC 7543, 2 cores", "memory": "8 GiB", "gpu": "none"},
            "versions": {"mtlplug": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
            "options": {"precision": "fp32", "batch size": 32, "cap": 2000},
            "command": "mtlplug study run padmakumar2022 --output results/study --seeds 1,2,3 "
            "--set pretrain.max_rows_per_task=2000 --set finetune.batch_size=32",
        },
    )


def _column(name: str, draw: random.Random) -> Column:
    if name == BASELINE:
        return Column(name)
    size = sum({"SL": 300, "C": 900, "QA": 2600}.get(group, 500) for group in name.split("+"))
    losses = [
        0.9 / (1 + 0.5 * epoch) + 0.2 + size / 9000 + draw.gauss(0, 0.01) for epoch in range(7)
    ]
    return Column(
        name,
        cell=f"pretrain-{draw.getrandbits(48):012x}",
        seconds=7.0 * size,
        seconds_per_epoch=float(size),
        epochs=7,
        tokens=size * 9000,
        scores={f"{group.lower()}_{number}": 60.0 + number for group in name.split("+")
                for number in range(3)},
        curve=[{"epoch": epoch, "loss": loss} for epoch, loss in enumerate(losses, 1)],
        command=f"deepspeed mtlplug/run.py --groups {name} --seed 1 --output encoders/{name}",
    )  # fmt: skip


def _target(name: str, group: str, metric: str, start: float) -> Target:
    floors = (50.0, 62.2) if group == "C" else (None, None)
    floors = (50.0, 56.5) if name == "copa" else floors
    note = "data is partial: 1,000 of 4,000 rows" if name == "subjqa_books" else ""
    return Target(name, group, metric, 1200, 400, *floors, note=note)


def _cell(
    target: str,
    group: str,
    column: str,
    start: float,
    seeds: Sequence[int],
    rates: Sequence[float],
    states: Mapping[tuple[str, str], str],
    draw: random.Random,
) -> list[Trial]:
    groups = column.split("+") if column != BASELINE else []
    gain = (
        3.5 * (group in groups) + 0.8 * len(groups) - 1.6 * (bool(groups) and group not in groups)
    )
    gain *= 0.1 if target in ("copa", "wic") else draw.uniform(0.5, 2.0)
    state = states.get((target, column), DONE)

    def run(rate: float, seed: int) -> Trial:
        penalty = 2.5 * abs(rates.index(rate) - 2 % len(rates))
        mean = start + gain - penalty
        return _trial(target, column, rate, seed, state, mean, draw)

    sweep = [run(rate, seeds[0]) for rate in rates]
    rate = best_rate(sweep)
    return sweep + [run(rate, seed) for seed in seeds[1:] if rate is not None]


def _trial(
    target: str,
    column: str,
    rate: float,
    seed: int,
    state: str,
    mean: float,
    draw: random.Random,
) -> Trial:
    planned = Trial(
        column,
        target,
        rate,
        seed,
        state,
        cell=f"finetune-{draw.getrandbits(48):012x}",
        command=f"mtlplug finetune --encoder encoders/{column} --task {target} --rate {rate:g} "
        f"--seed {seed} --output cells/{target}-{column}-{rate:g}-{seed}",
        error=OUT_OF_MEMORY if state == FAILED else "",
    )
    if state != DONE:
        return planned
    score = min(99.0, mean + draw.gauss(0, 0.7))
    curve = [
        {"epoch": epoch, "loss": (100 - mean) / 90 * (1 + 1.2 / epoch + 0.1 * max(0, epoch - 5)),
         "score": score * (1 - 0.5 / (1 + epoch) ** 1.5) + draw.gauss(0, 0.3)}
        for epoch in range(1, draw.randint(6, 11))
    ]  # fmt: skip
    loss = min(row["loss"] for row in curve)
    return replace(
        planned,
        score=score,
        loss=loss,
        epochs=len(curve),
        seconds=12.5 * len(curve),
        curve=curve,
    )


UNFINISHED = {
    ("re3d", "QA"): FAILED,
    ("cb", "SL+QA"): FAILED,
    ("wic", "SL+QA+C"): MISSING,
}
"""Cells of a study that was interrupted."""
