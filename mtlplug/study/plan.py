"""The cells of a study: what each one runs, and the name that follows from it.

Pre-finetuning cells make the encoders; sweep cells finetune each of them on each target at every
rate with the first seed; where a sweep is through, its best rate is repeated with the other seeds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import mtlplug
from mtlplug.config import RunConfig, resolve
from mtlplug.data.build import TRAIN, VALID, TaskData
from mtlplug.model.loading import model_digest
from mtlplug.study.results import BASELINE, Trial, best_rate
from mtlplug.study.settings import FINETUNE, PRETRAIN, Settings
from mtlplug.training.deepspeed_config import resolve_deepspeed
from mtlplug.training.record import deciding
from mtlplug.workspace import Workspace


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        name: hash of everything that decides its result.
        kind: "pretrain" or "finetune".
        column: the encoder it makes or starts from.
        target: what is finetuned on; empty for "pretrain".
        rate, seed: of the run.
        options: of `mtlplug run`; without model and output where the ledger knows better.
        encoder: name of the cell whose encoder it starts from; None for the study's own.
        cost: of one epoch with evaluation, in tokens.
        epochs: at the most.
    """

    name: str
    kind: str
    column: str
    target: str
    rate: float
    seed: int
    options: Mapping[str, Any]
    encoder: str | None
    cost: float
    epochs: int


@dataclass(frozen=True)
class Plan:
    """All cells of a study.

    Attributes:
        settings: columns, targets, rates and seeds.
        options: those all runs share: suite, data, cache, model, precision, as JSON-like values.
        workspace: plugins, suite and the options as resolved.
        data: by role ("pretrain", "finetune") and task the stored features.
        pair_cost: what a pair of tokens that attend to each other costs, in tokens.
        threads: of one process on a CPU: with another number sums are rounded otherwise.
    """

    settings: Settings
    options: Mapping[str, Any]
    workspace: Workspace
    data: Mapping[str, Mapping[str, TaskData]]
    pair_cost: float
    threads: int

    def title(self, cell: Cell) -> str:
        """A cell, for people; the encoder is named where there are several."""
        if cell.kind == PRETRAIN:
            return f"pre-finetune on {cell.column}"
        encoder = f"{cell.column} " if len(self.settings.columns) > 1 else ""
        return f"finetune {encoder}on {cell.target}, rate {cell.rate:g}, seed {cell.seed}"

    def pretrain_cells(self) -> list[Cell]:
        """One for each column but the baseline, the costliest first."""
        cells = [self.pretrain_cell(each) for each in self.settings.columns if each != BASELINE]
        return sorted(cells, key=lambda cell: -cell.cost)

    def sweep_cells(self) -> Iterator[Cell]:
        """Each encoder on each target at every rate."""
        for column in self.settings.columns:
            for target in self.settings.targets:
                for rate in self.settings.rates:
                    yield self.finetune_cell(column, target, rate, self.settings.seeds[0])

    def seed_cells(self, column: str, target: str, sweep: Sequence[Trial]) -> list[Cell]:
        """The other seeds at the best rate; none where every rate failed."""
        rate = best_rate(sweep)
        if rate is None:
            return []
        return [self.finetune_cell(column, target, rate, seed) for seed in self.settings.seeds[1:]]

    def pretrain_cell(self, column: str) -> Cell:
        """The cell that makes an encoder."""
        tasks = [task.name for task in self.workspace.suite.select(column)]
        options = {**self.options, **self.settings.pretrain, "groups": column}
        seed = int(options.setdefault("seed", RunConfig.seed))
        return self._cell(PRETRAIN, column, "", tasks, options, None, seed)

    def finetune_cell(self, column: str, target: str, rate: float, seed: int) -> Cell:
        """The cell of one finetuning run."""
        given = {"groups": target, "learning_rate": rate, "seed": seed}
        options = {**self.options, **self.settings.finetune, **given}
        encoder = None if column == BASELINE else self._encoders[column]
        return self._cell(FINETUNE, column, target, [target], options, encoder, seed)

    @cached_property
    def _encoders(self) -> dict[str, str]:
        return {cell.column: cell.name for cell in self.pretrain_cells()}

    @cached_property
    def _digest(self) -> str:
        return model_digest(self.workspace.config.model)

    def _cell(
        self,
        kind: str,
        column: str,
        target: str,
        tasks: Sequence[str],
        options: Mapping[str, Any],
        encoder: str | None,
        seed: int,
    ) -> Cell:
        config = self.config(options)
        data = [self.data[kind][task] for task in tasks]
        decides = {
            "kind": kind,
            "mtlplug": mtlplug.__version__,
            "encoder": {"cell": encoder} if encoder else self._digest,
            "threads": self.threads,
            **deciding(config, data, resolve_deepspeed(config, 1), self.workspace.plugins.registry),
        }
        return Cell(
            name=hash_of(decides),
            kind=kind,
            column=column,
            target=target,
            rate=config.learning_rate,
            seed=seed,
            options=options,
            encoder=encoder,
            cost=self._epoch_cost(config, data),
            epochs=config.max_epochs,
        )

    def _epoch_cost(self, config: RunConfig, data: Sequence[TaskData]) -> float:
        """Tokens of the first epoch of all tasks, as the mix draws from them."""
        workspace = replace(self.workspace, config=config)
        _ = workspace.weighting  # what is wrong with it is said now, not by every cell
        sizes = {each.task.name: len(each.stores[TRAIN]) for each in data}
        drawn = workspace.mix(sizes, 0)
        return sum(
            epoch_cost(each, self.pair_cost, count / max(1, len(each.stores[TRAIN])))
            for each, count in zip(data, drawn, strict=True)
        )

    def config(self, options: Mapping[str, Any]) -> RunConfig:
        """The options of a run, resolved."""
        suite = self.workspace.suite
        config = resolve(as_options(options), suite.defaults, f"suite '{suite.name}'")
        return replace(config, model=self.workspace.config.model)


def hash_of(value: Any) -> str:
    """A name for JSON-like values."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def as_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a run from JSON-like values."""
    paths = ("data", "cache", "output", "deepspeed_config")
    return {
        key: Path(value) if key in paths and value is not None else value
        for key, value in values.items()
    }


def epoch_cost(data: TaskData, pair_cost: float, passes: float = 1.0) -> float:
    """Tokens of an epoch, attention counted in tokens; a forward pass is a third of a step.

    Args:
        data: of one task.
        pair_cost: of two tokens that attend to each other, in tokens.
        passes: over the task's features in an epoch.
    """
    share = {TRAIN: passes, VALID: 1 / 3}
    return float(
        sum(
            share[split] * (store.lengths_N.sum() + pair_cost * store.squares_N.sum())
            for split, store in data.stores.items()
        )
    )
