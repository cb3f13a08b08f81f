"""What the check of the distributed gradient says; `tests/training/test_gradient.py` uses it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig

from mtlplug.data.build import TRAIN, TaskData
from mtlplug.doctor import gradient, ranks, worker
from mtlplug.doctor.checks import BAD, NOTE, OK, Check
from mtlplug.doctor.gradient import difference, gradient_checks, reference
from mtlplug.doctor.job import Case, Job, Recipe
from mtlplug.doctor.ranks import Trained, train_on_ranks
from mtlplug.errors import MtlplugError
from mtlplug.heads import TokenHead
from mtlplug.ragged import Splits
from tests import toy
from tests.model.small_encoders import tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[TaskData]:
    """Two tiny tasks."""
    return toy.task_data(tmp_path_factory.mktemp("stores"), "C SL")


@pytest.fixture
def encoder(tmp_path: Path) -> str:
    """The folder of a small encoder."""
    tiny("bert").save_pretrained(tmp_path / "bert")
    return str(tmp_path / "bert")


def all_checks(
    data: list[TaskData],
    monkeypatch: pytest.MonkeyPatch,
    off: Mapping[str, float],
    reason: str | None = None,
    seen: Any = None,
) -> dict[str, Check]:
    """The checks under stages 1 and 2 where ranks end off the reference by so much."""

    def pretend(job: Job, _: int) -> tuple[dict[str, Trained], str | None]:
        weights = reference(job, job.cases[0].encoder).weights
        steps = seen or [[[[0], [1]]] * job.recipe.steps, [[[0]]] * job.recipe.steps]
        return {
            name: Trained({key: value + gap for key, value in weights.items()}, steps)
            for name, gap in off.items()
        }, reason

    monkeypatch.setattr(gradient, "train_on_ranks", pretend)
    config = AutoConfig.for_model("bert", vocab_size=70)
    return {check.name: check for check in gradient_checks(data, config, ["1", "2"], 2)}


EQUAL = {"zero1": 0.0, "zero2": 0.0, "control": 0.1}


def test_equal_parameters_are_ok(data: list[TaskData], monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages that equal the reference are ok, with what was trained."""
    checks = all_checks(data, monkeypatch, EQUAL)
    assert {check.status for check in checks.values()} == {OK}
    assert "moved" in checks["ZeRO-1, 2 ranks"].found
    assert "a bert of 2 layers" in checks["gradient"].found
    assert checks["gradient"].facts["micro_batches"] == [12, 6]
    assert "c0 (C), sl1 (SL)" in checks["heads"].found


def test_other_parameters_are_bad(data: list[TaskData], monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that differs is bad and says by how much; numbers that are none too."""
    off = {**EQUAL, "zero1": 1e-3, "zero2": float("nan")}
    checks = all_checks(data, monkeypatch, off)
    assert checks["ZeRO-1, 2 ranks"].status == BAD
    assert "differ by up to 1.0e-03" in checks["ZeRO-1, 2 ranks"].found
    assert checks["ZeRO-2, 2 ranks"].facts["difference"] == torch.inf


def test_a_control_that_is_not_noticed_is_bad(
    data: list[TaskData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mean that is wrong on purpose must differ, or the check proves nothing."""
    check = all_checks(data, monkeypatch, {**EQUAL, "control": 0.0})["gradient, control"]
    assert check.status == BAD
    assert "proves nothing" in check.remedy


def test_ranks_that_fail_are_bad(data: list[TaskData], monkeypatch: pytest.MonkeyPatch) -> None:
    """What stopped the ranks is said for each stage that was not reached."""
    checks = all_checks(data, monkeypatch, {"zero1": 0.0}, reason="rank 1: KeyError: 'x'")
    assert checks["ZeRO-1, 2 ranks"].status == OK
    assert checks["ZeRO-2, 2 ranks"].status == BAD
    assert checks["ZeRO-2, 2 ranks"].found == "rank 1: KeyError: 'x'"
    assert checks["gradient, control"].status == NOTE


def test_heads_that_were_never_absent(
    data: list[TaskData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every rank had every task all the time, the case was easy, which is a note."""
    seen = [[[[0, 1]]] * 6] * 2
    assert all_checks(data, monkeypatch, EQUAL, seen=seen)["gradient"].status == NOTE


def test_the_parameter_that_differs_most_is_named(data: list[TaskData], tmp_path: Path) -> None:
    """A head's parameter is told by its task and format."""
    job = Job(tmp_path, data, Recipe(), [])
    said = gradient._owned(job, "heads.1.projection.weight")
    assert said == "'projection.weight' of the head of task 'sl1' (format SL)"
    assert gradient._owned(job, "encoder.model.x") == "encoder.model.x"
    ones = {"a": torch.ones(2), "b": torch.ones(2)}
    assert difference(ones, ones)[0] == 0.0
    assert difference(ones, {**ones, "a": torch.tensor([1.0, 3.0])}) == (2.0, "a")
    with pytest.raises(RuntimeError, match="'b'"):
        difference({"a": ones["a"]}, ones)


class Spare(TokenHead):
    """A head with a parameter that takes no part."""

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__(hidden_size, outputs)
        self.spare = nn.Parameter(torch.zeros(3))


class Chance(TokenHead):
    """A head that drops rows by a function, which cannot be switched off."""

    def forward(self, rows_RD: Tensor, splits: Splits) -> Tensor:
        """Scores of every row."""
        return super().forward(torch.dropout(rows_RD, 0.5, True), splits)


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (Spare, "'spare' of the head of task 'c0' (format C) never gets a gradient"),
        (Chance, "losses of c0 (C) differ when computed twice"),
    ],
)
def test_a_faulty_head_is_named(
    head: type[TokenHead],
    says: str,
    data: list[TaskData],
    encoder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A parameter without gradient and a loss of chance are found before any rank starts."""
    first = data[0].format
    monkeypatch.setattr(
        type(first), "head", lambda self, task, hidden_size: head(hidden_size, len(task.labels))
    )
    job = Job(tmp_path, data, Recipe(), [])
    (check,) = gradient._head_checks(job, reference(job, encoder))
    assert (check.status, check.found) == (BAD, says)


def test_a_job_is_read_as_written(data: list[TaskData], tmp_path: Path) -> None:
    """Tasks, steps and cases of a job survive the file; sources are left behind."""
    cases = [Case("one", "folder", {"zero_optimization": {"stage": 2}}, "mean of means")]
    job = Job(tmp_path, data, Recipe.of(data, 4), cases)
    found = Job.read(job.write())
    assert (found.folder, found.recipe, found.cases) == (tmp_path, job.recipe, cases)
    for ours, theirs in zip(found.data, data, strict=True):
        assert ours.task == dataclasses.replace(theirs.task, sources={})
        assert type(ours.format) is type(theirs.format)
        assert ours.stores[TRAIN].folder == theirs.stores[TRAIN].folder
    assert [each.features_B.tolist() for each in found.batches()] == [
        each.features_B.tolist() for each in job.batches()
    ]


@pytest.mark.parametrize("number", [1, 2, 4, 16])
def test_steps_suit_the_ranks(data: list[TaskData], number: int) -> None:
    """Each rank has features, and the first one several micro-batches."""
    recipe = Recipe.of(data, number)
    packer = worker.Uneven(**Job(Path(), data, recipe, []).packing, max_tokens=recipe.max_tokens)
    batches = list(Job(Path(), data, recipe, []).batches())
    plans = [packer.plan(members, number) for members in batches]
    assert len(batches) == recipe.steps
    assert max(len(plan[0]) for plan in plans) > 1
    assert all(plans[0][rank] for rank in range(number))
    assert (plans[2][-1] == []) == (number > 1)
    for members, plan in zip(batches, plans, strict=True):
        assert sum(len(part) for rank in plan for part in rank) == len(members)


# ---- processes ----


@pytest.fixture
def job(data: list[TaskData], tmp_path: Path) -> Job:
    """A job without cases."""
    return Job(tmp_path, data, Recipe(), [Case("one", "nowhere", {})])


def test_ranks_that_wait_are_ended(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes from which nothing comes are ended, and that is the reason."""
    monkeypatch.setattr(ranks, "WORKER", ("-c", "import time; time.sleep(300)"))
    trained, reason = train_on_ranks(job, 2, patience=0.3)
    assert trained == {}
    assert reason == "nothing came for 0 s: the ranks wait for each other"


def test_the_rank_that_failed_is_named(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process that ends badly ends the others; what it said last is told."""
    script = (
        "import os, sys, time; time.sleep(300 * (os.environ['RANK'] == '0')); sys.exit('boo m')"
    )
    monkeypatch.setattr(ranks, "WORKER", ("-c", script))
    monkeypatch.setattr(ranks, "GRACE", 0.1)
    assert train_on_ranks(job, 2) == ({}, "rank 1 ended with code 1: boo m")


def test_the_first_failure_is_told(job: Job) -> None:
    """Of several ranks the one is named that failed first: the others miss it."""
    for rank, when in enumerate((5.0, 3.0, 4.0)):
        (job.folder / f"rank{rank}.error").write_text(f'[{when}, "Error: {when}"]')
    assert ranks._failure(job, [1, 1, 1]) == "rank 1: Error: 3.0"


def test_a_worker_leaves_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a rank raises is kept as one sentence."""
    monkeypatch.setenv("RANK", "3")

    def broken(_: Path) -> Job:
        raise MtlplugError("something\n is wrong")

    monkeypatch.setattr(worker.Job, "read", broken)
    with pytest.raises(MtlplugError):
        worker.main(tmp_path / "job.json")
    assert "MtlplugError: something is wrong" in (tmp_path / "rank3.error").read_text()
