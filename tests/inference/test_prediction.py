"""Predictions for rows without gold: as in evaluation, shared, streamed, and as users need them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from mtlplug.errors import MtlplugError
from mtlplug.formats import Row, TaskFormat
from mtlplug.heads import SequenceHead
from mtlplug.inference import prediction
from mtlplug.inference.inputs import read_rows
from mtlplug.inference.prediction import Predictor, as_rows
from mtlplug.inference.trained import TrainedRun, open_run
from tests.training.runs import read


@pytest.fixture(scope="module")
def run(trained: Path) -> TrainedRun:
    """The run, opened."""
    return open_run(trained)


@pytest.fixture(scope="module")
def suite(trained: Path) -> Path:
    """The folder of the suite it was trained on."""
    return trained.parent / "suite"


def test_a_head_gets_what_it_borrows(run: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder's parameters, by name, beside rows and splits."""
    lent: list[Tensor] = []
    forward = SequenceHead.forward

    def borrowing(self: SequenceHead, *rows: Any, input_embeddings: Tensor) -> Any:
        lent.append(input_embeddings)
        return forward(self, *rows)

    before = list(run.predict("kinds", ["a b c"]))
    monkeypatch.setattr(type(run.formats["kinds"]), "borrows", ("input_embeddings",))
    monkeypatch.setattr(SequenceHead, "forward", borrowing)
    assert list(Predictor(run, ["kinds"])(as_rows(["a b c"]))) == [{"kinds": before[0]}]
    assert torch.equal(lent[0], run.encoder.model.get_input_embeddings().weight.cpu())


def test_a_sentence_that_becomes_no_token(run: TrainedRun) -> None:
    """No row is read of it: its words are outside, and it stands in nobody's way."""
    rows = [{"tokens": [" "]}, {"tokens": ["w1", "w22"]}]
    nothing, something = run.predict("tags", rows)
    assert nothing == {"entities": [], "tokens": [" "], "labels": ["O"]}
    assert something == next(iter(run.predict("tags", rows[1:])))


def test_rows_that_are_none(run: TrainedRun) -> None:
    """One text or row in place of several, and a missing column, at every call."""
    for single in ("w1 w2", {"text": "w1 w2"}):
        with pytest.raises(MtlplugError, match="give a list of rows"):
            run.predict("kinds", single)
    for _ in range(2):
        assert len(list(run.predict("kinds", ["w1 w2"]))) == 1
        with pytest.raises(MtlplugError, match="column"):
            list(run.predict("kinds", [{"txt": "w1 w2"}]))


def test_predictions_score_what_the_run_reports(
    run: TrainedRun, trained: Path, suite: Path
) -> None:
    """Labels, spans and answers of the validation rows give the scores of report.json."""
    report = read(trained, "report.json")["tasks"]
    sentences = [
        [line.split(" ") for line in sentence.split("\n")]
        for sentence in (suite / "tags/valid.conll").read_text().strip().split("\n\n")
    ]
    rows = [{"tokens": [word for word, _ in sentence]} for sentence in sentences]
    found = [each["labels"] for each in run.predict("tags", rows)]
    right = [label == tag for labels, s in zip(found, sentences, strict=True)
             for label, (_, tag) in zip(labels, s, strict=True)]  # fmt: skip
    assert 100 * sum(right) / len(right) == pytest.approx(report["tags"]["metrics"]["accuracy"])

    lines = (suite / "kinds/valid.tsv").read_text().splitlines()[1:]
    texts, kinds = zip(*(line.split("\t") for line in lines), strict=True)
    labels = [each["label"] for each in run.predict("kinds", texts)]
    right = [label == kind for label, kind in zip(labels, kinds, strict=True)]
    assert 100 * sum(right) / len(right) == pytest.approx(report["kinds"]["score"])

    rows = list(read_rows(suite / "spans/valid.json", "squad", {}))
    golds = [
        question["answers"][0]["text"]
        for article in json.loads((suite / "spans/valid.json").read_text())["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]
    answers = [each["text"] for each in run.predict("spans", rows)]
    right = [answer == gold for answer, gold in zip(answers, golds, strict=True)]
    assert 100 * sum(right) / len(right) == report["spans"]["metrics"]["exact_match"]


def test_a_row_gets_the_same_alone_and_among_others(run: TrainedRun) -> None:
    """What it is predicted with does not matter."""
    texts = [" ".join(f"w{n}" for n in range(size)) for size in (3, 17, 1, 8, 3)]
    together = list(run.predict(["tags", "kinds"], texts))
    for text, both in zip(texts, together, strict=True):
        (alone,) = run.predict("kinds", [text])
        assert alone["probabilities"] == pytest.approx(both["kinds"]["probabilities"], abs=1e-6)
        (alone,) = run.predict("tags", [text])
        assert alone["labels"] == both["tags"]["labels"]


def test_heads_share_a_pass_of_the_encoder(run: TrainedRun) -> None:
    """Sequences that several tasks or rows need are encoded once."""
    tokens = 0
    forward = type(run.encoder).forward

    def counted(self: object, stream: object) -> object:
        nonlocal tokens
        tokens += len(stream.ids_T)  # type: ignore[attr-defined]
        return forward(self, stream)  # type: ignore[arg-type]

    with patch.object(type(run.encoder), "forward", counted):
        list(run.predict(["tags", "kinds"], ["w1 w2 w3", "w4 w5", "w1 w2 w3"]))
    assert tokens == 5 + 4


def test_rows_are_predicted_as_they_come(run: TrainedRun) -> None:
    """An endless stream of rows gives predictions, a bounded number of rows behind."""
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for number in itertools.count():
            read += 1
            yield f"w{number % 60} w{number // 60 % 60}"

    with patch.object(prediction, "TOKENS_AT_ONCE", 400):
        found = list(itertools.islice(run.predict("kinds", endless()), 250))
    assert len(found) == 250
    assert read == 300


def test_entities_have_their_characters(run: TrainedRun) -> None:
    """Of a text, signs around words apart; of words, in the words joined by blanks."""
    text = "  w30 w1, (w2) w31"
    (found,) = run.predict("tags", [text])
    assert found["tokens"] == ["w30", "w1", ",", "(", "w2", ")", "w31"]
    for entity in found["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"]
        assert 0 < entity["score"] <= 1
    assert {"w1", "w2"} <= {entity["text"] for entity in found["entities"]}
    (words,) = run.predict("tags", [{"tokens": ["w30", "w1"]}])
    assert [(e["start"], e["end"], e["text"]) for e in words["entities"]] == [(4, 6, "w1")]


def test_an_answer_is_found_in_every_window(run: TrainedRun) -> None:
    """Its characters are those of the context, candidates are ranked, probabilities add up."""
    context = " ".join(f"w{20 + n % 40}" for n in range(90)) + " w7 w50"
    (found,) = run.predict("spans", [{"question": "w7 ?", "context": context}], n_best=4)
    assert len(found["candidates"]) == 4
    scores = [each["score"] for each in found["candidates"]]
    assert scores == sorted(scores, reverse=True)
    for each in [found, *found["candidates"]]:
        assert context[each["start"] : each["end"]] == each["text"]
    total = found["no_answer"] + sum(each["probability"] for each in found["candidates"])
    assert total == pytest.approx(1)
    assert max(each["start"] for each in found["candidates"]) > 0


def test_no_answer_is_an_answer_where_training_had_it(run: TrainedRun) -> None:
    """By the threshold; a task that was trained without never gives it."""
    row = {"question": "w7 ?", "context": "w1 w7 w9"}
    (found,) = run.predict("spans", [row], no_answer_threshold=-1e9)
    assert found["text"] != ""
    task = run.tasks["spans"]
    run.predictors.clear()
    with patch.dict(task.facts, {"unanswerable": True}):  # type: ignore[arg-type]
        (found,) = run.predict("spans", [row], no_answer_threshold=-1e9)
        assert (found["text"], found["start"]) == ("", None)
        (found,) = run.predict("spans", [row], no_answer_threshold=1e9)
        assert found["text"] != ""


def test_rows_without_ids_are_not_taken_for_one(run: TrainedRun) -> None:
    """Rows are numbered through, and nothing is remembered of each."""
    predictor = prediction.Predictor(run, ["spans"])
    rows = [Row({"question": "w7 ?", "context": "w1 w7"}) for _ in range(3)]
    assert len(list(predictor(rows))) == 3
    assert predictor.counts == {}


class Plain(TaskFormat):
    """A format without what is optional."""

    code, title, headline, columns = "P", "plain", "accuracy", ("text", "label")

    def __init__(self, inner: TaskFormat) -> None:
        for name in ("features", "head", "loss", "decode", "metrics"):
            setattr(self, name, getattr(inner, name))

    features = head = loss = decode = metrics = None  # type: ignore[assignment]


def test_a_format_needs_nothing_more_to_predict(run: TrainedRun) -> None:
    """What it decodes is shown, if its rows have what it asks for; else a sentence says what."""
    with patch.dict(run.formats, kinds=Plain(run.formats["kinds"])):  # type: ignore[arg-type]
        row = {"text": "w1 w2", "label": "odd"}
        (found,) = run.predict("kinds", [row])
        assert found in ("even", "odd")
        assert list(run.predict("kinds", [{"text": "w1"}])) == [None]  # C drops it and counts
    with (
        patch.object(type(run.formats["kinds"]), "unlabelled", lambda self, task, row: row["x"]),
        pytest.raises(MtlplugError, match=r"format C of task 'kinds' cannot use this row .*'x'"),
    ):
        list(run.predict("kinds", [{"text": "w1"}]))


@pytest.mark.parametrize(
    ("task", "rows", "options", "sentence"),
    [
        ("kind", ["w1"], {}, r"unknown task of the run 'kind' \(did you mean 'kinds'\?\); known"),
        ("kinds", [3], {}, "row 1 is 3; give a text"),
        ("kinds", ["w1"], {"n_best": 3}, "unknown option of these tasks 'n_best'"),
        ("spans", ["w1"], {"n_best": "3"}, "option n_best is '3'; it should be a int"),
        ("spans", ["w1"], {}, "task 'spans': row 1: columns 'question' and 'context'"),
        ("tags", [Row({"tokens": "w1"}, "here")], {}, "here: .*must be lists of one length"),
    ],
)
def test_what_cannot_be_predicted_is_one_sentence(
    run: TrainedRun, task: str, rows: list, options: dict, sentence: str
) -> None:
    """Task, option and row are named."""
    with pytest.raises(MtlplugError, match=sentence):
        list(run.predict(task, rows, **options))
