"""mtlplug.model.vocabulary: rows that no feature reads are left out, and nothing shows it."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtlplug.batching.stream import TokenStream
from mtlplug.config import RunConfig
from mtlplug.data.build import TaskData
from mtlplug.doctor.job import without_dropout
from mtlplug.model.activations import Activations
from mtlplug.model.encoder import Encoder
from mtlplug.model.flops import encoder_flops
from mtlplug.model.vocabulary import (
    FIRST,
    UsedRows,
    leave_out_unused,
    trimmed_as,
    used_rows,
)
from mtlplug.training.deepspeed_config import resolve_deepspeed
from mtlplug.training.engine import Engine
from mtlplug.training.launch import start
from mtlplug.training.pretrain import new_model
from tests import toy
from tests.model.small_encoders import FAMILIES, LENGTHS, gradients, inputs, tiny
from tests.model.test_multitask import Borrowing
from tests.training.test_zero import steps

VOCABULARY = 300
TABLE = "encoder.model.embeddings.word_embeddings.weight"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[TaskData]:
    """Stored toy tasks of three formats; they know 64 tokens."""
    return toy.task_data(tmp_path_factory.mktemp("stores"))


def read_by(data: list[TaskData]) -> list[int]:
    """The tokens that occur, and those that are kept whatever occurs."""
    ids = [piece for each in data for store in each.stores.values() for piece in store.ids()]
    return sorted({*np.concatenate(ids).tolist(), *range(FIRST)})


def trimmed(encoder: Encoder, data: list[TaskData], **options: Any) -> UsedRows | None:
    """What is left out under these options of a run."""
    sections = options.pop("sections", {})
    config = RunConfig(precision="fp32", **options)
    return leave_out_unused(encoder, data, config, resolve_deepspeed(config, 1) | sections)


@pytest.mark.parametrize("road", ["packed", "padded"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_hidden_states_and_gradients_are_those_of_the_whole(family: str, road: str) -> None:
    """To the last bit, in every family; padding gets no gradient in either."""
    model = tiny(family)
    ids, types = inputs(model, LENGTHS)
    ids = [np.where(each % 3 == 0, each - 1, each) for each in ids]  # leaves rows out
    stream = TokenStream.of(ids, types)
    table = model.get_input_embeddings()
    padding = {model.config.pad_token_id or 0, table.padding_idx} - {None}
    ids_U = torch.tensor(sorted({*np.concatenate(ids).tolist(), *padding}))
    assert len(ids_U) < len(table.weight) - 20

    whole, part = (Encoder(copy.deepcopy(model), road) for _ in range(2))
    part.model.set_input_embeddings(UsedRows(table, ids_U))
    expected_TD, found_TD = whole(stream), part(stream)
    assert torch.equal(found_TD, expected_TD)
    expected, found = gradients(whole.model, expected_TD), gradients(part.model, found_TD)
    assert expected.keys() == found.keys()
    (name,) = [name for name, each in expected.items() if each.shape != found[name].shape]
    unread = np.setdiff1d(np.arange(len(table.weight)), ids_U)
    assert (expected[name][unread] == 0).all()
    expected[name] = expected[name][ids_U]
    assert all(torch.equal(found[name], each) for name, each in expected.items())


def trained(
    data: list[TaskData], *, trim: bool, clip: float, stage: int, weight_decay: float = 0.0
) -> tuple[dict[str, Tensor], Encoder]:
    """Weights after a few steps of our engine, and the encoder."""
    options = {"learning_rate": 1e-3, "gradient_clipping": clip, "weight_decay": weight_decay}
    config = RunConfig(precision="fp32", **options)
    resolved = resolve_deepspeed(config, 1)
    sections = {"stage": stage, "stage3_param_persistence_threshold": 100}
    resolved["zero_optimization"].update(sections)
    encoder = toy.encoder(vocabulary=VOCABULARY)
    if trim:
        assert leave_out_unused(encoder, data, config, resolved) is not None
    model = new_model(encoder, data, seed=3)
    without_dropout(model)
    engine = Engine(model, config, resolved, 10**9, start())
    for step in steps(data, engine.world, 6):
        engine.step(step)
    weights = engine.weights()
    engine.engine.destroy()
    return weights, encoder


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("clip", [1e9, 0.1])
def test_steps_are_those_of_the_whole(data: list[TaskData], stage: int, clip: float) -> None:
    """To the last bit where nothing is clipped; a norm adds its squares in another order."""
    expected, _ = trained(data, trim=False, clip=clip, stage=stage)
    found, encoder = trained(data, trim=True, clip=clip, stage=stage)
    rows = used_rows(encoder)
    assert rows is not None
    ids = rows.ids_U.tolist()
    assert ids == read_by(data)
    unread = [row for row in range(VOCABULARY) if row not in ids]
    before = toy.encoder(vocabulary=VOCABULARY).model.get_input_embeddings().weight
    assert torch.equal(expected[TABLE][unread], before[unread])
    assert not torch.equal(expected[TABLE][ids], before[ids])
    expected[TABLE] = expected[TABLE][ids]
    assert expected.keys() == found.keys()
    if clip > 1:
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    # AdamW makes much of rounding where a gradient is next to nothing.
    model = new_model(toy.encoder(vocabulary=VOCABULARY), data, seed=3)
    begun: dict[str, Tensor] = dict(model.named_parameters())
    begun[TABLE] = begun[TABLE][ids]
    way = torch.cat([(expected[name] - begun[name]).detach().flatten() for name in expected])
    gap = torch.cat([(expected[name] - found[name]).flatten() for name in expected])
    assert float(gap.norm() / way.norm()) < 1e-4


def test_with_weight_decay_it_would_show(data: list[TaskData]) -> None:
    """Rows that no feature reads shrink then, and so none is left out."""
    decayed, encoder = trained(data, trim=False, clip=1e9, stage=1, weight_decay=0.1)
    before = toy.encoder(vocabulary=VOCABULARY).model.get_input_embeddings().weight
    assert used_rows(encoder) is None
    assert not torch.equal(decayed[TABLE][64:], before[64:])
    assert trimmed(toy.encoder(vocabulary=VOCABULARY), data, weight_decay=0.1) is None


def test_what_is_counted(data: list[TaskData]) -> None:
    """The parameters that go, and the rows that stay."""
    encoder = toy.encoder(vocabulary=VOCABULARY)
    before = sum(parameter.numel() for parameter in encoder.parameters())
    rows = trimmed(encoder, data)
    assert rows is used_rows(encoder) is not None
    assert rows.counts == {"rows": len(read_by(data)), "of": VOCABULARY}
    assert sum(parameter.numel() for parameter in encoder.parameters()) == before - rows.left_out
    assert "places_V" not in str(encoder.state_dict().keys())
    assert trimmed(encoder, data) is None  # nothing is left to leave out


def test_every_split_counts(tmp_path: Path) -> None:
    """A token that only validation has keeps its row."""
    (both,) = toy.task_data(tmp_path, "C", number=1)
    train = dataclasses.replace(both, stores={"train": both.stores["train"]})
    found = []
    for each in (train, both):
        rows = trimmed(toy.encoder(vocabulary=VOCABULARY), [each])
        assert rows is not None
        assert rows.ids_U.tolist() == read_by([each])
        found.append({*rows.ids_U.tolist()})
    assert found[0] < found[1]


class Scaled(nn.Embedding):
    """As some families have it."""

    def forward(self, ids: Tensor) -> Tensor:
        """Ten times the rows."""
        return super().forward(ids) * 10


def of_another_class(encoder: Encoder) -> None:
    """Embeddings that do more than look up."""
    encoder.model.set_input_embeddings(Scaled(VOCABULARY, 16))


def shared(encoder: Encoder) -> None:
    """Another layer that computes with them."""
    encoder.model.decoder = nn.Linear(16, VOCABULARY, bias=False)
    encoder.model.decoder.weight = encoder.model.get_input_embeddings().weight


def of_another_family(encoder: Encoder) -> None:
    """One that nobody has tried."""
    encoder.model.config.model_type = "ernie"


def bounded(encoder: Encoder) -> None:
    """Embeddings that change as they are read."""
    encoder.model.get_input_embeddings().max_norm = 1.0


@pytest.mark.parametrize("change", [of_another_class, shared, of_another_family, bounded])
def test_encoders_that_keep_everything(data: list[TaskData], change: Any) -> None:
    """Where more than a row may be read."""
    encoder = toy.encoder(vocabulary=VOCABULARY)
    change(encoder)
    assert trimmed(encoder, data) is None
    assert used_rows(encoder) is None


def test_runs_that_keep_everything(data: list[TaskData]) -> None:
    """Where a row may change without being read, or there is little to gain."""
    sgd = {"optimizer": {"type": "SGD", "params": {"lr": 1e-3}}}
    assert trimmed(toy.encoder(vocabulary=VOCABULARY), data, sections=sgd) is None
    borrowing = [*data[1:], dataclasses.replace(data[0], format=Borrowing())]
    assert trimmed(toy.encoder(vocabulary=VOCABULARY), borrowing) is None
    assert trimmed(toy.encoder(vocabulary=70), data) is None
    assert trimmed(toy.encoder(vocabulary=40), data) is None  # 64 tokens are no fit at all


def test_a_token_without_a_row_is_refused(data: list[TaskData]) -> None:
    """It would be read as another one."""
    rows = trimmed(toy.encoder(vocabulary=VOCABULARY), data)
    assert rows is not None
    with pytest.raises(IndexError):
        rows(torch.tensor([5, VOCABULARY - 1]))


def test_no_forward_asks_the_device_for_a_value() -> None:
    """Tensors without values have none to give."""
    rows = UsedRows(nn.Embedding(9, 4, padding_idx=1), torch.tensor([1, 3, 5])).to("meta")
    assert rows.padding_idx == 0
    assert rows(torch.zeros(2, 7, dtype=torch.long, device="meta")).shape == (2, 7, 4)


def test_passes_that_measure_run(data: list[TaskData]) -> None:
    """They read a token that no task need have."""
    whole, part = (toy.encoder(vocabulary=VOCABULARY + 1) for _ in range(2))
    few = [dataclasses.replace(each, stores={}) for each in data]
    rows = trimmed(part, few)
    assert rows is not None
    assert rows.ids_U.tolist() == list(range(FIRST))
    kept, expected = (Activations.of(each, 40).bytes_X for each in (part, whole))
    assert kept == pytest.approx(expected, rel=0.01)  # places are of four bytes, ids of eight
    assert encoder_flops(part) == encoder_flops(toy.encoder(vocabulary=VOCABULARY + 2))


def test_trained_rows_are_put_back(data: list[TaskData]) -> None:
    """The others are what they were, and the model is a stock one again."""
    trained, fresh = (toy.encoder(vocabulary=VOCABULARY) for _ in range(2))
    rows = trimmed(trained, data)
    assert rows is not None
    with torch.no_grad():
        rows.weight += 1
    before = fresh.model.get_input_embeddings().weight.clone()
    with trimmed_as(fresh, trained):
        fresh.load_state_dict(trained.state_dict())
    table = fresh.model.get_input_embeddings()
    assert type(table) is nn.Embedding
    ids_U = rows.ids_U
    assert torch.equal(table.weight[ids_U], before[ids_U] + 1)
    unread = np.setdiff1d(np.arange(VOCABULARY), ids_U)
    assert torch.equal(table.weight[unread], before[unread])
