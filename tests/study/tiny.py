"""A study of seconds: a tiny suite with two targets, and cells that were never run."""

from __future__ import annotations

from pathlib import Path

from mtlplug.study.plan import Cell
from mtlplug.study.results import BASELINE, Trial, best_rate
from mtlplug.study.settings import FINETUNE, PRETRAIN, Settings
from tests import small_suite

TARGETS = """
[tasks.more_tags]
format = "SL"
role = "target"
train = "tags/train.conll"
valid = "tags/valid.conll"

[tasks.more_kinds]
format = "C"
role = "target"
train = "kinds/train.tsv"
valid = "kinds/valid.tsv"
columns = { text = "sentence", label = "kind" }

[study]
groups = ["SL", "SL+C"]
rates = [1e-2, 1e-3]
seeds = [1, 2]
[study.pretrain]
max_epochs = 1
[study.finetune]
batch_size = 4
"""


def write(folder: Path) -> Path:
    """Write data, encoder and suite; returns the suite's path."""
    suite = small_suite.write(folder)
    suite.write_text(suite.read_text(encoding="utf-8") + TARGETS, encoding="utf-8")
    return suite


class FakePlan:
    """The cells of a study, as `mtlplug.study.plan.Plan` names them, without any data."""

    def __init__(self, columns: tuple[str, ...] = (BASELINE, "SL", "SL+C")) -> None:
        self.settings = Settings(columns, ("one", "two"), (1e-3, 1e-4), (1, 2, 3))
        self.costs = {"one": 1.0, "two": 1.0}

    def pretrain_cells(self) -> list[Cell]:
        """One for each column but the baseline."""
        columns = [each for each in self.settings.columns if each != BASELINE]
        return [self._cell(PRETRAIN, each, "", 5e-5, 13, None) for each in columns]

    def sweep_cells(self) -> list[Cell]:
        """Column by target by rate."""
        return [
            self._finetune(column, target, rate, self.settings.seeds[0])
            for column in self.settings.columns
            for target in self.settings.targets
            for rate in self.settings.rates
        ]

    def seed_cells(self, column: str, target: str, sweep: list[Trial]) -> list[Cell]:
        """The other seeds at the best rate."""
        rate = best_rate(sweep)
        seeds = self.settings.seeds[1:] if rate is not None else ()
        return [self._finetune(column, target, rate or 0.0, seed) for seed in seeds]

    def _finetune(self, column: str, target: str, rate: float, seed: int) -> Cell:
        encoder = None if column == BASELINE else f"pretrain-{column}--0.00005-13"
        return self._cell(FINETUNE, column, target, rate, seed, encoder)

    def _cell(
        self, kind: str, column: str, target: str, rate: float, seed: int, encoder: str | None
    ) -> Cell:
        name = f"{kind}-{column}-{target}-{rate:.5f}-{seed}"
        cost = self.costs.get(target, 1.0)
        return Cell(name, kind, column, target, rate, seed, {}, encoder, cost, 3)
