"""The central promise: a step's gradient is that of the mean over the whole batch.

The machinery is that of `mtlplug doctor --zero`: the same steps in one plain process that pads,
and in several processes under DeepSpeed, with shares that differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from deepspeed.accelerator import get_accelerator

from mtlplug.batching.packing import Packer
from mtlplug.data.build import TaskData
from mtlplug.doctor.gradient import Reference, difference, reference, tolerance_of
from mtlplug.doctor.job import Case, Job, Recipe, without_dropout
from mtlplug.doctor.ranks import Trained, device_of, train_on_ranks
from mtlplug.model.encoder import Encoder
from mtlplug.training.pretrain import new_model
from tests import toy
from tests.model.small_encoders import FAMILIES, tiny

STAGES = tuple(range(4))
PADDED = "ernie"
"""A family not known to pack."""
TYPES = [*sorted(FAMILIES), PADDED]
OTHERS = [model_type for model_type in TYPES if model_type != "bert"]
ZERO: dict[str, dict[str, Any]] = {
    "all-reduce": {"stage": 2, "reduce_scatter": False},
    "small buckets": {"stage": 2, "reduce_bucket_size": 500},
    "overlapping": {"stage": 2, "reduce_bucket_size": 1000, "overlap_comm": True},
    "optimizer on the host": {"stage": 2, "offload_optimizer": {"device": "cpu"}},
    "small pieces": {
        "stage": 3,
        "reduce_bucket_size": 500,
        "stage3_prefetch_bucket_size": 300,
        "stage3_param_persistence_threshold": 10,
    },
}
"""What people's DeepSpeed files ask of ZeRO beside its stage."""
WRONG = 1e-3
"""A difference that no rounding makes."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[TaskData]:
    """Five tiny tasks of three formats, some with heads of equal shape."""
    return toy.task_data(tmp_path_factory.mktemp("stores"))


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small encoders, one of each family."""
    folder = tmp_path_factory.mktemp("encoders")
    for model_type in TYPES:
        tiny(model_type).save_pretrained(folder / model_type)
    return folder


def job(folder: Path, data: list[TaskData], *cases: Case) -> Job:
    """The same steps for all tests here, fewer than the doctor takes."""
    return Job(folder, data, Recipe(steps=4, batch_size=12, max_tokens=60), cases)


def case(encoders: Path, model_type: str, stage: int, **options: Any) -> Case:
    """One family under one ZeRO stage."""
    name = options.pop("name", f"{model_type}-zero{stage}")
    fault = options.pop("fault", None)
    sections = {"zero_optimization": {"stage": stage}, **options}
    return Case(name, str(encoders / model_type), sections, fault)


@pytest.fixture(scope="module")
def references(data: list[TaskData], encoders: Path) -> dict[str, Reference]:
    """Of each family, what one process without DeepSpeed gets, padded, in fp32."""
    steps = job(encoders, data)
    return {model_type: reference(steps, str(encoders / model_type)) for model_type in TYPES}


def train(folder: Path, data: list[TaskData], ranks: int, cases: list[Case]) -> dict[str, Trained]:
    """Train all cases in one set of processes."""
    trained, reason = train_on_ranks(job(folder, data, *cases), ranks)
    assert reason is None
    return trained


@pytest.fixture(scope="module")
def one_rank(
    data: list[TaskData], encoders: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Trained]:
    """All ZeRO stages on one rank."""
    cases = [case(encoders, "bert", stage) for stage in STAGES]
    return train(tmp_path_factory.mktemp("one"), data, 1, cases)


@pytest.fixture(scope="module")
def two_ranks(
    data: list[TaskData], encoders: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Trained]:
    """All stages and families, ways of ZeRO, the processor's half precision, mistakes; on two."""
    cases = [case(encoders, "bert", stage) for stage in STAGES]
    cases += [case(encoders, model_type, stage) for model_type in OTHERS for stage in (1, 2)]
    cases += [
        Case(name, str(encoders / "bert"), {"zero_optimization": ZERO[name]}) for name in ZERO
    ]
    cases.append(case(encoders, "bert", 1, name="bf16", bf16={"enabled": True}))
    same_device = device_of(2) == get_accelerator().device_name()
    if same_device and get_accelerator().is_fp16_supported():
        scaled = {"enabled": True, "initial_scale_power": 8}
        cases.append(case(encoders, "bert", 1, name="fp16", fp16=scaled))
    for fault in ("mean of means", "absent heads last"):
        cases.append(case(encoders, "bert", 2, name=fault, fault=fault))
    return train(tmp_path_factory.mktemp("two"), data, 2, cases)


@pytest.fixture(scope="module")
def four_ranks(
    data: list[TaskData], encoders: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Trained]:
    """All ZeRO stages on four ranks."""
    cases = [case(encoders, "bert", stage) for stage in STAGES]
    return train(tmp_path_factory.mktemp("four"), data, 4, cases)


@pytest.mark.parametrize("model_type", TYPES)
def test_the_reference_moves_every_parameter(
    references: dict[str, Reference], model_type: str
) -> None:
    """What the ranks are compared with has trained all of the model, without chance."""
    expected = references[model_type]
    assert expected.moved > 0.1
    assert (expected.unmoved, expected.random) == ((), ())


def test_the_loss_is_the_mean_over_features(data: list[TaskData], encoders: Path) -> None:
    """The definition: the loss of a batch is the mean of its features' losses."""
    steps = job(encoders, data)
    model = new_model(Encoder.from_pretrained(str(encoders / "bert"), road="padded"), data, 0)
    without_dropout(model)
    packer = Packer(**steps.packing, max_tokens=10**6)
    for members in steps.batches():
        output = model(packer.pack(members, len(members)))
        mean = torch.cat([*output.losses.values()]).sum() / len(members)
        torch.testing.assert_close(output.loss.detach(), mean, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("ranks", ["one_rank", "two_ranks", "four_ranks"])
@pytest.mark.parametrize("stage", STAGES)
def test_ranks_equal_one_padded_process(
    request: pytest.FixtureRequest, references: dict[str, Reference], ranks: str, stage: int
) -> None:
    """Packed micro-batches on uneven ranks change nothing under any ZeRO stage, to 1e-6."""
    trained = request.getfixturevalue(ranks)[f"bert-zero{stage}"]
    tolerance = tolerance_of(len(trained.seen))
    assert difference(trained.weights, references["bert"].weights)[0] < tolerance


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("model_type", OTHERS)
def test_every_family_equals_one_padded_process(
    two_ranks: dict[str, Trained], references: dict[str, Reference], model_type: str, stage: int
) -> None:
    """So it is for every family of encoders, on either road."""
    trained = two_ranks[f"{model_type}-zero{stage}"]
    assert difference(trained.weights, references[model_type].weights)[0] < tolerance_of(2)


@pytest.mark.parametrize("name", ZERO)
def test_so_it_is_however_zero_communicates(
    two_ranks: dict[str, Trained], references: dict[str, Reference], name: str
) -> None:
    """Buckets, overlap and offload change when gradients travel, not what they are."""
    trained = two_ranks[name]
    assert difference(trained.weights, references["bert"].weights)[0] < tolerance_of(2)


def tasks(rank: list[list[list[int]]], step: int) -> set[int]:
    """The tasks that a rank has features of in a step."""
    return {task for part in rank[step] for task in part}


@pytest.mark.parametrize("ranks", ["two_ranks", "four_ranks"])
def test_the_ranks_were_uneven(request: pytest.FixtureRequest, ranks: str) -> None:
    """Ranks differ in micro-batches, and heads are absent on one of them: the case is hard."""
    seen = request.getfixturevalue(ranks)["bert-zero1"].seen
    assert len({sum(map(len, rank)) for rank in seen}) > 1
    steps = range(len(seen[0]))
    assert any(tasks(seen[0], step) - tasks(seen[-1], step) for step in steps)
    assert any(len(rank[step]) > 1 for rank in seen for step in steps)


@pytest.mark.parametrize("fault", ["mean of means", "absent heads last"])
def test_a_mistake_is_noticed(
    two_ranks: dict[str, Trained], references: dict[str, Reference], fault: str
) -> None:
    """The comparison fails where means are averaged, or ranks call heads in different orders."""
    assert difference(two_ranks[fault].weights, references["bert"].weights)[0] > WRONG


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_near(
    two_ranks: dict[str, Trained],
    references: dict[str, Reference],
    data: list[TaskData],
    encoders: Path,
    precision: str,
) -> None:
    """fp16 and bf16 with ZeRO-1 on two ranks move the parameters as fp32 does."""
    if precision not in two_ranks:
        pytest.skip(f"DeepSpeed runs no {precision} on this processor")
    expected, ours = references["bert"].weights, two_ranks[precision].weights
    encoder = Encoder.from_pretrained(str(encoders / "bert"))
    start = dict(new_model(encoder, data, Recipe().seed).named_parameters())
    moved = torch.cat([(expected[name] - start[name]).detach().flatten() for name in expected])
    error = torch.cat([(ours[name] - expected[name]).flatten() for name in expected])
    assert float(error.norm() / moved.norm()) < 0.1
    assert all(value.dtype == torch.float32 for value in ours.values())
