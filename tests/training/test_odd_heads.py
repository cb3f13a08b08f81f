"""Heads of any kind are exact under ZeRO: on two ranks as in one padded process."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from mtlplug.doctor.gradient import Reference, difference, reference, tolerance_of
from mtlplug.doctor.job import Case, Job, Recipe
from mtlplug.doctor.ranks import Trained, train_on_ranks
from mtlplug.plugin_sources import give
from tests import small_suite, toy
from tests.model.small_encoders import tiny
from tests.training import odd_heads

# No weight is too small to be taken apart and gathered.
APART = {"stage": 3, "stage3_param_persistence_threshold": 0}
STAGES = {"zero2": {"stage": 2}, "zero3": {"stage": 3}, "zero3 apart": APART}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reference, dict[str, Trained]]:
    """Four steps in one process and on two ranks."""
    folder = tmp_path_factory.mktemp("odd")
    tiny("bert").save_pretrained(folder / "bert")
    formats = odd_heads.mtlplug_task_formats()
    data = [
        replace(each, format=odd, task=replace(each.task, format=odd.code))
        for each, odd in zip(toy.task_data(folder, "C C C C"), formats, strict=True)
    ]
    cases = [
        Case(name, str(folder / "bert"), {"zero_optimization": zero})
        for name, zero in STAGES.items()
    ]
    job = Job(folder, data, Recipe(steps=4, batch_size=12, max_tokens=60), cases)
    with mock.patch.dict(os.environ):
        give([odd_heads.__name__])
        found, reason = train_on_ranks(job, 2)
    assert reason is None
    return reference(job, str(folder / "bert")), found


@pytest.mark.parametrize("case", STAGES)
def test_odd_heads_are_exact(trained: tuple[Reference, dict[str, Trained]], case: str) -> None:
    """How many tensors a head returns, and how often it calls a layer, may depend on its rows."""
    expected, found = trained
    assert difference(found[case].weights, expected.weights)[0] < tolerance_of(2)


def test_a_weight_with_two_names_is_kept(tmp_path: Path) -> None:
    """A run saves and reads it: its scores are those of the report."""
    suite = small_suite.write(tmp_path)
    suite.write_text(suite.read_text().replace('format = "C"', 'format = "TIED"'))
    folder = tmp_path / "run"
    more = ("-p", odd_heads.__file__)
    result = small_suite.command(
        "run", "--groups", "kinds", "--suite", suite, "--output", folder, "--max-epochs", "2", *more
    )
    assert result.exit_code == 0, result.output
    told = small_suite.command("evaluate", folder, "--task", "kinds", "--json", *more)
    score = json.loads((folder / "report.json").read_text())["tasks"]["kinds"]["score"]
    assert json.loads(told.stdout)["metrics"]["accuracy"] == score
