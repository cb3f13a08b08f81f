"""Learned weights of losses on uneven ranks, against one padded process."""

from __future__ import annotations

import pytest
import torch

from mtlplug.doctor.gradient import Reference, difference, reference, tolerance_of
from mtlplug.doctor.job import Case, Job, Recipe
from mtlplug.doctor.ranks import Trained, train_on_ranks
from tests import toy
from tests.model.small_encoders import tiny

LEARNED = "weighting.log_variances_T"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reference, dict[str, Trained]]:
    """Four steps with `uncertainty`, in one process and on two ranks under each ZeRO stage."""
    folder = tmp_path_factory.mktemp("weighting")
    tiny("bert").save_pretrained(folder / "bert")
    cases = [
        Case(f"zero{stage}", str(folder / "bert"), {"zero_optimization": {"stage": stage}})
        for stage in (3, 2, 1, 0)  # after a ZeRO-3 engine, linear layers are functions of DeepSpeed
    ]
    recipe = Recipe(steps=4, batch_size=12, max_tokens=60, weighting="uncertainty")
    job = Job(folder, toy.task_data(folder / "stores"), recipe, cases)
    expected = reference(job, str(folder / "bert"))
    found, reason = train_on_ranks(job, 2)
    assert reason is None
    return expected, found


@pytest.mark.parametrize("stage", range(4))
def test_learned_weights_are_exact_on_ranks(
    trained: tuple[Reference, dict[str, Trained]], stage: int
) -> None:
    """Weights and log variances are those of one process, with heads absent on a rank, to 1e-6."""
    expected, found = trained
    weights = found[f"zero{stage}"].weights
    assert difference(weights, expected.weights)[0] < tolerance_of(2)
    assert float(weights[LEARNED].abs().min()) > 0.01
    assert not torch.equal(*weights[LEARNED][:2])


def test_the_case_was_hard(trained: tuple[Reference, dict[str, Trained]]) -> None:
    """In some step a task was on one rank alone."""
    first, second = trained[1]["zero1"].seen
    tasks = [
        [{n for part in rank[step] for n in part} for rank in (first, second)] for step in range(4)
    ]
    assert any(ours != theirs for ours, theirs in tasks)
