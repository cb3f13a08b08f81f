"""Stock models made of our encoder and heads: equal logits, in every family of encoders."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from mtlplug_c import Classification
from mtlplug_qa import QuestionAnswering
from mtlplug_sl import SequenceLabelling
from torch import Tensor

from mtlplug.batching.stream import TokenStream
from mtlplug.errors import MtlplugError
from mtlplug.formats import Task, TaskFormat
from mtlplug.model.encoder import Encoder
from mtlplug.model.multitask import MultiTaskModel
from mtlplug.ragged import Splits
from tests.model.small_encoders import FAMILIES, inputs, tiny

LENGTH = 12
TASKS = {
    "tags": (SequenceLabelling(), ("O", "B-X", "I-X"), range(LENGTH)),
    "spans": (QuestionAnswering(), (), range(LENGTH)),
    "kinds": (Classification(), ("no", "maybe", "yes"), [0]),
}


def model_of(family: str, road: str) -> MultiTaskModel:
    """The three formats on a small encoder, new heads as wide as they need to show a difference."""
    tasks = [Task(name, f.code, labels=labels) for name, (f, labels, _) in TASKS.items()]
    formats: list[TaskFormat] = [each for each, _, _ in TASKS.values()]
    torch.manual_seed(1)
    model = MultiTaskModel(Encoder(tiny(family), road), tasks, formats, [1] * 3).eval()
    for value in model.heads.parameters():
        torch.nn.init.normal_(value, std=0.5)
    return model


def stock_logits(model: Any, ids: Tensor, types: Tensor) -> Tensor:
    """What a stock model gives for one sequence: (L, K), or (1, K)."""
    takes = "token_type_ids" in inspect.signature(model.forward).parameters
    output = model(ids, **({"token_type_ids": types} if takes else {}))
    if "start_logits" in output:
        return torch.stack([output.start_logits, output.end_logits], -1)[0]
    return output.logits.view(-1, output.logits.shape[-1])


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_stock_model_has_our_logits(family: str, tmp_path: Path) -> None:
    """Difference 0 against our padded road, also after a round trip over the disk.

    Against the packed road, where another kernel may compute attention, less than a rounding.
    """
    padded, packed = model_of(family, "padded"), model_of(family, "packed")
    (ids,), (types,) = inputs(padded.encoder.model, [LENGTH])
    stream = TokenStream.of([ids], [types])
    with torch.no_grad():
        hidden = [model.encoder(stream) for model in (padded, packed)]
        for number, (name, (task_format, labels, reads)) in enumerate(TASKS.items()):
            head, task = padded.heads[number], padded.tasks[number]
            ours, ours_packed = (
                head(each_TD[list(reads)], Splits.of([len(reads)])) for each_TD in hidden
            )
            # Of the packed encoder, as a run has it: its attention is not the stock one's.
            stock = task_format.export(task, head, packed.encoder.model)
            stock.save_pretrained(tmp_path / name)
            # Copied, as rounding depends on where in memory weights begin, and files map anywhere.
            again = copy.deepcopy(type(stock).from_pretrained(tmp_path / name))
            for each in (stock, again):
                logits = stock_logits(each.eval(), stream.ids_T[None], stream.types_T[None])
                assert torch.equal(logits, ours)
                assert (logits - ours_packed).abs().max() <= 1e-5 * logits.abs().max()
                assert [*each.config.id2label.values()] == list(labels or ("start", "end"))


@pytest.mark.parametrize("family", ["electra", "modernbert", "distilbert", "deberta-v2"])
def test_a_head_not_made_for_a_family_is_refused(family: str) -> None:
    """A stock class that computes something else than the head is no export."""
    encoder = tiny(family)
    for task_format, labels, _ in TASKS.values():
        head = task_format.head(Task("t", task_format.code, labels=labels), 32)
        if family == "modernbert" or task_format.code == "C":
            with pytest.raises(MtlplugError, match=f"another form than .* of '{family}' encoders"):
                task_format.export(Task("t", task_format.code, labels=labels), head, encoder)
        else:
            task_format.export(Task("t", task_format.code, labels=labels), head, encoder)


def test_an_unknown_family_is_refused() -> None:
    """It lists those that are known."""
    head = Classification().head(Task("t", "C", labels=("a", "b")), 32)
    with pytest.raises(MtlplugError, match="stock classifier 'ernie'; known: albert, bert"):
        Classification().export(Task("t", "C", labels=("a", "b")), head, tiny("ernie"))
