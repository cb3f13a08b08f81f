"""How long the rest of a study takes: from cells that are done, else from a few timed steps."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch

from mtlplug.bench.ceiling import synchronize
from mtlplug.model.vocabulary import leave_out_unused
from mtlplug.study.opening import Study
from mtlplug.study.overview import State
from mtlplug.study.plan import Cell
from mtlplug.training.deepspeed_config import resolve_deepspeed
from mtlplug.training.launch import start
from mtlplug.training.memory import give_back_memory
from mtlplug.training.pretrain import prepare_steps

STEPS = 4
"""Steps timed where no cell is done; the first is not counted."""


@dataclass(frozen=True)
class Rest:
    """What is left of a study.

    Attributes:
        columns: by column the seconds of work, if every run stops as early as its patience
            allows, and if every run goes on to its last epoch.
        measured: cells it follows from; 0: from a few steps timed now.
    """

    columns: Mapping[str, tuple[float, float]]
    measured: int

    @property
    def total(self) -> tuple[float, float]:
        """The seconds of all columns."""
        least, most = zip(*self.columns.values(), strict=True)
        return sum(least), sum(most)


def rest_of(study: Study, state: State) -> Rest:
    """Seconds of one worker for all that is left; nothing is timed where nothing is."""
    known = [study.overview.result(cell.name) or {} for cell in state.done]
    known = [each for each in known if each.get("report", {}).get("epochs")]
    left = [*state.ready, *state.waiting]
    if known:
        spent = sum(each["wall"] for each in known)
        per_cost = spent / sum(each["cost"] * each["report"]["epochs"] for each in known)
    else:
        per_cost = time_steps(study) if left else 0.0
    every_sweep = list(study.plan.sweep_cells())
    columns = {}
    for name in study.plan.settings.columns:
        cells = [cell for cell in left if cell.column == name]
        sweep = [cell for cell in every_sweep if cell.column == name]
        share = state.to_come[name] / len(sweep)  # seeds to come are like the runs of the sweep
        least, most = (
            per_cost * (_cost(cells, study, least=early) + share * _cost(sweep, study, least=early))
            for early in (True, False)
        )
        columns[name] = (least, most)
    return Rest(columns, len(known))


def _cost(cells: Sequence[Cell], study: Study, *, least: bool) -> float:
    """Tokens of all epochs of these cells."""
    total = 0.0
    for cell in cells:
        patience = study.plan.config(cell.options).patience
        # The first epoch may be the best one.
        epochs = min(cell.epochs, patience + 1) if least and patience else cell.epochs
        total += cell.cost * epochs
    return total


def time_steps(study: Study) -> float:
    """Seconds for a token of cost, from a few steps on all data of the study."""
    threads = torch.get_num_threads()
    torch.set_num_threads(study.plan.threads)
    world = start()
    data = list({**study.plan.data["finetune"], **study.plan.data["pretrain"]}.values())
    config = study.plan.config(study.plan.options)
    workspace = replace(study.plan.workspace, config=config)
    deepspeed_config = resolve_deepspeed(config, world.size)
    leave_out_unused(study.encoder, data, config, deepspeed_config)  # as a run does
    engine, pool, loader = prepare_steps(workspace, data, study.encoder, deepspeed_config, world)
    rates = []
    for members in islice(pool.epoch(0), STEPS):
        step = loader.step(members)
        started = time.perf_counter()
        engine.step(step)
        synchronize(world.device)
        rates.append((time.perf_counter() - started) / loader.packer.costs(members).sum())
    del engine, loader
    give_back_memory()
    torch.set_num_threads(threads)
    return float(np.median(rates[1:] or rates))
