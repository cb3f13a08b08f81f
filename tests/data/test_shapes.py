"""QED and the hub's MRQA become SQuAD's rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from file_helpers import fault, rows, write

CONTEXT = "Ann met Bo in Rome."
TEXT, NUMBER = datasets.Value("string"), datasets.Value("int32")


def mrqa(folder: Path, layout: Any = datasets.Sequence, end: int = 17) -> Path:
    """A dataset with the features of `mrqa-workshop/mrqa`.

    `datasets.Sequence` of structs is stored as lists in a struct, `datasets.List` as it is.
    """
    spans = layout({"start": NUMBER, "end": NUMBER})
    detected = layout({"text": TEXT, "char_spans": spans})
    texts = ("subset", "context", "qid", "question")
    features = {**dict.fromkeys(texts, TEXT), "tokens": datasets.List(TEXT)}
    answers = [("Rome", [(14, end), (14, end)]), ("bo", [(8, 9)])]
    structs = [
        {"text": text, "char_spans": [{"start": a, "end": b} for a, b in places]}
        for text, places in answers
    ]
    lists = {
        "text": [text for text, _ in answers],
        "char_spans": [
            {"start": [a for a, _ in places], "end": [b for _, b in places]}
            for _, places in answers
        ],
    }
    table = [
        {
            "subset": subset,
            "context": CONTEXT,
            "tokens": ["Ann"],
            "qid": f"q-{subset}",
            "question": "Where?",
            "detected_answers": structs if layout is datasets.List else lists,
        }
        for subset in ("SQuAD", "NewsQA", "SQuAD")
    ]
    schema = datasets.Features({**features, "detected_answers": detected})
    datasets.Dataset.from_list(table, features=schema).to_parquet(folder / "train.parquet")
    return folder


@pytest.mark.parametrize("layout", [datasets.Sequence, datasets.List])
def test_hub_mrqa(tmp_path: Path, layout: Any) -> None:
    """Answers are slices of the context, each once; `only` takes one of the datasets."""
    found = rows(mrqa(tmp_path, layout), reader="hub_mrqa", only={"subset": "NewsQA"})
    answers = {"text": ["Rome", "Bo"], "answer_start": [14, 8]}
    assert found == [
        {
            "id": "q-NewsQA",
            "question": "Where?",
            "context": CONTEXT,
            "answers": answers,
            "subset": "NewsQA",
        }
    ]
    assert len(rows(tmp_path, reader="hub_mrqa")) == 3


def test_hub_mrqa_faults(tmp_path: Path) -> None:
    """Spans outside the context are refused, with the row's number among all rows."""
    message = fault(mrqa(tmp_path, end=19), reader="hub_mrqa", only={"subset": "NewsQA"})
    assert "row 2: the answer from character 14 to 19 does not lie in the context" in message


def qed(path: Path, answers: Any) -> Path:
    """One line as QED has it."""
    row = {"example_id": 1, "question_text": "where", "paragraph_text": CONTEXT}
    return write(path, json.dumps(row | {"original_nq_answers": answers}))


def test_qed(tmp_path: Path) -> None:
    """The answers of all annotators count, each once; their ends are exclusive."""
    rome, bo = {"start": 14, "end": 18}, {"start": 8, "end": 10}
    path = qed(tmp_path / "qed.jsonlines", [[rome], [rome, bo]])
    assert rows(path, reader="qed") == [
        {
            "id": "1",
            "question": "where",
            "context": CONTEXT,
            "answers": {"text": ["Rome", "Bo"], "answer_start": [14, 8]},
        }
    ]


@pytest.mark.parametrize("answers", [None, [{"start": 1}], [[{"start": 1}]]])
def test_qed_faults(tmp_path: Path, answers: Any) -> None:
    """Answers of another shape name the column."""
    assert "'original_nq_answers' is" in fault(qed(tmp_path / "a.jsonl", answers), reader="qed")


def test_real_qed(real_data: Path) -> None:
    """The authors' file read as it is has the rows and answers of the converted one."""
    original = rows(real_data / "QA/qed/original/qed-dev.jsonlines.gz", reader="qed")
    converted = [
        row for split in ("train", "valid") for row in rows(real_data / f"QA/qed/{split}.json.gz")
    ]
    assert len(original) == 1355
    same = [
        one["question"] == other["question"]
        and set(one["answers"]["text"]) == set(other["answers"]["text"])
        for one, other in zip(original, converted, strict=True)
    ]
    assert all(same)
