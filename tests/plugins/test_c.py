"""C: labels by name, features, loss, metrics and export."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mtlplug_c import Classification
from mtlplug_qa import QuestionAnswering
from mtlplug_sl import SequenceLabelling
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from mtlplug.data.suites import load_suite
from mtlplug.data.tokens import Encode
from mtlplug.errors import MtlplugError
from mtlplug.formats import IGNORE, Feature, Row, Task
from mtlplug.ragged import Splits

FORMAT = Classification()


@pytest.fixture
def encode() -> Encode:
    """A tokenizer of whole words."""
    words = ["[UNK]", "[CLS]", "[SEP]", "good", "bad", "film"]
    vocab = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return Encode(PreTrainedTokenizerFast(tokenizer_object=backend), 16)


def rows(*labels: Any) -> list[Row]:
    """A row for each label."""
    return [
        Row({"text": "good film", "label": label}, f"f, line {n}") for n, label in enumerate(labels)
    ]


def prepared(train: list[Row], **values: Any) -> Task:
    """A task that has learnt from these rows."""
    task = Task("t", "C", **values)
    facts = FORMAT.prepare(task, train)
    return replace(task, facts=facts, labels=task.labels or tuple(facts["labels"]))


def made(task: Task, given: list[Row], encode: Encode) -> list[Feature]:
    """The features of these rows."""
    return list(FORMAT.features(task, iter(given), encode))


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["b", "a", "b"], ["a", "b"]),
        ([True, False], ["False", "True"]),
        ([1.0, 0, "1"], ["0", "1"]),
        (["10", "9", "-2"], ["-2", "9", "10"]),
        ([0.5, 1.0], ["0.5", "1"]),
        ([1, -1, None, "", float("nan"), 0], ["0", "1"]),
    ],
)
def test_labels_go_by_name(values: list[Any], labels: list[str]) -> None:
    """Labels of any type become sorted names; numbers sort by value; missing ones are none."""
    assert FORMAT.prepare(Task("t", "C"), rows(*values)) == {"labels": labels}


def test_features_read_the_first_token(encode: Encode) -> None:
    """A text or a pair becomes one feature that reads position 0 and keeps its label's name."""
    given = rows("x", "y")
    given[1]["text_pair"] = "bad film"
    single, pair = made(prepared(given), given, encode)
    assert (single.reads, single.target, single.reference) == ([0], [0], "x")
    assert single.sequences[0].tokens == ["[CLS]", "good", "film", "[SEP]"]
    assert pair.sequences[0].tokens[4:] == ["bad", "film", "[SEP]"]
    assert pair.target == [1]


def test_unusable_rows_are_dropped_and_counted(encode: Encode) -> None:
    """Rows without label or text are left out and counted by kind."""
    given = [*rows("x", None, -1, "y"), Row({"text": None, "label": "x"})]
    assert len(made(prepared(given), given, encode)) == 2
    assert encode.counts == {"rows without label": 2, "rows without text": 1}


def test_label_unseen_in_training(encode: Encode) -> None:
    """A label that training never had has no target, loss zero, and still counts as wrong."""
    task = prepared(rows("x", "y"))
    (feature,) = made(task, rows("z"), encode)
    assert (feature.target, feature.reference) == ([IGNORE], "z")
    assert encode.counts == {"labels not in training": 1}
    loss = FORMAT.loss(torch.randn(1, 2), torch.tensor(feature.target), Splits.of([1]))
    assert loss.tolist() == [0.0]
    assert FORMAT.metrics(task, ["x", "x"], ["x", "z"])["accuracy"] == 50.0


def test_labels_of_the_suite_rule(encode: Encode) -> None:
    """Labels that the suite names keep their order; any other label is an error."""
    task = prepared(rows("x"), labels=("y", "x", "-1"))
    assert task.labels == ("y", "x", "-1")
    assert [f.target for f in made(task, rows("x", "y", -1), encode)] == [[1], [0], [2]]
    with pytest.raises(MtlplugError, match=r"f, line 1: unknown label 'z'; known: -1, x, y"):
        made(task, rows("x", "z"), encode)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": 5, "label": "x"}, "f, line 9: column 'text' holds 5"),
        ({"text": "a", "text_pair": ["b"], "label": "x"}, "column 'text_pair' holds"),
        ({"text": "a", "label": ["x"]}, r"f, line 9: column 'label' holds \['x'\]"),
    ],
)
def test_wrong_types(row: dict[str, Any], message: str, encode: Encode) -> None:
    """A column of the wrong type is named with its value and place."""
    with pytest.raises(MtlplugError, match=message):
        made(prepared(rows("x")), [Row(row, "f, line 9")], encode)


def test_decode_and_metrics() -> None:
    """Gold scores 100; two labels give F1 of the second, more the macro average."""
    two = Task("t", "C", labels=("0", "1"))
    scores = torch.tensor([[2.0, 1.0], [0.0, 1.0], [0.0, 1.0], [3.0, 0.0]])
    predicted = FORMAT.decode(two, scores, Splits.of([1] * 4))
    assert predicted == ["0", "1", "1", "0"]
    assert FORMAT.metrics(two, predicted, predicted) == {"accuracy": 100, "f1": 100, "mcc": 100}
    partly = FORMAT.metrics(two, predicted, ["0", "1", "0", "0"])
    assert partly["accuracy"] == 75.0
    assert partly["f1"] == pytest.approx(200 / 3)
    assert partly["mcc"] == pytest.approx(100 / 3**0.5)
    three = Task("t", "C", labels=("0", "1", "2"))
    macro = FORMAT.metrics(three, ["0", "1", "1"], ["0", "1", "2"])["f1"]
    assert macro == pytest.approx(100 * (1 + 2 / 3 + 0) / 3)


def test_loss_is_unreduced() -> None:
    """The loss is one cross entropy a feature."""
    scores = torch.log(torch.tensor([[0.25, 0.75], [0.5, 0.5]]))
    loss = FORMAT.loss(scores, torch.tensor([1, 0]), Splits.of([1, 1]))
    assert loss.exp().reciprocal().tolist() == pytest.approx([0.75, 0.5])


@pytest.mark.slow
def test_real_tasks(real_data: Path, minilm: str) -> None:
    """Every real task makes a target of every labelled row, and gold scores 100."""
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    formats = {"C": FORMAT, "QA": QuestionAnswering(), "SL": SequenceLabelling()}
    suite = load_suite("collection", formats, real_data)
    for task in suite.tasks.values():
        if task.format != "C":
            continue
        train = list(islice(task.sources["train"].rows(), 300))
        task = prepared(train, sources=task.sources)
        encode = Encode(tokenizer, 128)
        features = made(task, train, encode)
        targets = np.array([feature.target for feature in features])
        assert len(features) + encode.counts["rows without label"] == len(train)
        assert set(targets.ravel()) == set(range(len(task.labels)))
        gold = [feature.reference for feature in features]
        assert FORMAT.metrics(task, gold, gold)["accuracy"] == 100.0
