"""What a study that has begun still takes, by encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from mtlplug.study.estimate import rest_of
from mtlplug.study.opening import open_study
from mtlplug.study.results import BASELINE, DONE
from tests.study import tiny

SECONDS = 30.0


def test_the_rest_of_each_encoder(tmp_path: Path) -> None:
    """From a cell that took half a minute: cost times epochs, of repeats to come too."""
    suite = tiny.write(tmp_path)
    study = open_study({"suite": str(suite)}, {}, tmp_path / "study", Console(quiet=True))
    study.ledger.write_study(study.as_dict())
    first, *others = [cell for cell in study.plan.sweep_cells() if cell.column == BASELINE]
    report = {"epochs": first.epochs, "tasks": {first.target: {"score": 50.0, "loss": 1.0}}}
    result = {"state": DONE, "wall": SECONDS, "cost": first.cost, "report": report}
    study.ledger.record(first.name, result)
    rest = rest_of(study, study.overview.look())
    assert rest.measured == 1

    def seconds(cost: float) -> float:
        return SECONDS * cost / (first.cost * first.epochs)

    sweep = sum(cell.cost * cell.epochs for cell in [first, *others])
    repeats = len(study.plan.settings.seeds) - 1
    rates = len(study.plan.settings.rates)
    left = sweep - first.cost * first.epochs + sweep * repeats / rates
    assert rest.columns[BASELINE][1] == pytest.approx(seconds(left))
    for cell in study.plan.pretrain_cells():
        left = cell.cost * cell.epochs + sweep + sweep * repeats / rates
        assert rest.columns[cell.column][1] == pytest.approx(seconds(left))
    assert rest.total[1] == pytest.approx(sum(most for _, most in rest.columns.values()))
    assert all(least <= most for least, most in rest.columns.values())
