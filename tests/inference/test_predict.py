"""`mtlplug predict` on files of every kind."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from mtlplug.formats import Row
from mtlplug.inference.command import _conll_lines
from mtlplug.inference.inputs import LINES, PIECE, read_rows
from tests.small_suite import command


def lines(text: str) -> list[dict[str, Any]]:
    """The JSON lines of an output."""
    return [json.loads(line) for line in text.splitlines()]


def test_text_lines_give_an_answer_each(trained: Path, tmp_path: Path) -> None:
    """Empty ones too; several tasks by name; what could not be used is counted, apart."""
    (tmp_path / "in.txt").write_text("w1 w2\n\nw30 w3\n")
    result = command("predict", trained, tmp_path / "in.txt", "--task", "tags,kinds")
    assert result.exit_code == 0, result.output
    first, empty, last = lines(result.stdout)
    assert [entity["text"] for entity in first["tags"]["entities"]] == ["w1", "w2"]
    assert empty["tags"] is None
    assert last["kinds"]["label"] in ("even", "odd")
    assert result.stderr.splitlines()[-2:] == [
        "counted in tags: 1 row without tokens",
        "counted in kinds: 1 text without tokens",
    ]


def test_conll_keeps_its_layout(trained: Path, tmp_path: Path) -> None:
    """Every line as it was, with a column more; files without tags as well."""
    text = "\nw1 NN B-LOW\nw30 NN O\n\n\nw3 NN B-LOW\n\n"
    (tmp_path / "in.conll").write_text(text)
    options = ("--task", "tags", "--format", "conll", "--to", tmp_path / "out.conll")
    result = command("predict", trained, tmp_path / "in.conll", *options)
    assert result.exit_code == 0, result.output
    expected = "\nw1 NN B-LOW B-LOW\nw30 NN O O\n\n\nw3 NN B-LOW B-LOW\n\n"
    assert (tmp_path / "out.conll").read_text() == expected
    (tmp_path / "in.conll").write_text("w1\nw30\n")
    result = command("predict", trained, tmp_path / "in.conll", *options[:4])
    assert result.stdout == "w1 B-LOW\nw30 O\n"
    row = Row({"tokens": ["-"], LINES: ["- NN", ""]}, "line 1")
    assert _conll_lines(row, {"tags": None}) == "- NN O\n\n"  # no token is left of its word


def test_jsonl_squad_and_tables(trained: Path, tmp_path: Path) -> None:
    """Rows keep their ids; columns of other names are named; no file needs its gold."""
    question = {"id": "q7", "question": "w7 ?", "context": "w1 w7 w9"}
    (tmp_path / "in.jsonl").write_text(json.dumps(question) + "\n")
    squad = {"data": [{"paragraphs": [{"context": "w1 w7 w9", "qas": [
        {"id": "q7", "question": "w7 ?"}]}]}]}  # fmt: skip
    (tmp_path / "in.json").write_text(json.dumps(squad))
    outputs = []
    for name in ("in.jsonl", "in.json"):
        more = ("--task", "spans", "--option", "n_best=2")
        result = command("predict", trained, tmp_path / name, *more)
        assert result.exit_code == 0, result.output
        outputs += lines(result.stdout)
    assert outputs[0] == outputs[1]
    assert outputs[0]["id"] == "q7"
    assert len(outputs[0]["spans"]["candidates"]) == 2
    (tmp_path / "in.tsv").write_text("review\nw1 w2\n")
    more = ("--task", "kinds", "--column", "text=review")
    result = command("predict", trained, tmp_path / "in.tsv", *more)
    (answer,) = lines(result.stdout)
    assert answer["kinds"]["label"] in ("even", "odd")
    more = ("--task", "kinds", "--column", "text=0", "--no-header")
    result = command("predict", trained, tmp_path / "in.tsv", *more)
    assert len(lines(result.stdout)) == 2


def test_a_squad_file_is_read_article_by_article(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Articles longer and shorter than what is read at a time come out as they are."""
    articles = [
        {"title": f'"data": [{n}', "paragraphs": [
            {"context": "é" * size, "qas": [{"id": str(n), "question": "?", "answers": []}]}]}
        for n, size in enumerate((10, 3 * PIECE, 5, PIECE // 2, 20 * PIECE, 1))
    ]  # fmt: skip
    text = json.dumps({"version": "2", "data": articles}, ensure_ascii=False, indent=1)
    (tmp_path / "long.json").write_text(text, encoding="utf-8")
    rows = read_rows(tmp_path / "long.json", "squad", {})
    assert [len(row["context"]) for row in rows] == [
        len(each["paragraphs"][0]["context"]) for each in articles
    ]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert len(list(read_rows(Path("-"), "squad", {}))) == len(articles)


@pytest.mark.parametrize(
    ("name", "content", "more", "sentence"),
    [
        ("in.json", "{}", (), 'is no SQuAD file, which has a list of articles in "data"'),
        ("in.json", '{"data": [{"paragraphs": [', (), "its last article, is bad JSON"),
        ("in.json", '{"data": [{"paragraphs": [{}]}]}', (), "after question 0 comes what is not"),
        ("in.conll", "w1 w2\n", ("--column", "tokens=4"), "line 1 has no column 4"),
        ("in.jsonl", '{"review": "w1"}', (), "no column 'text' but review; .*--column text=NAME"),
        ("in.txt", "w1", ("--format", "conll"), "task 'kinds' has no labels of words"),
        ("in.txt", "w1", ("--format", "xml"), "unknown format of the output 'xml'"),
        ("in.txt", "w1", ("--input", "xml"), "unknown kind of input 'xml'; known: conll, csv"),
        ("in.txt", "w1", ("--task", "kind"), r"has no task 'kind' \(did you mean 'kinds'\?\)"),
        ("in.txt", "w1", ("--to", "/nowhere/out"), "/nowhere/out cannot be written"),
        ("in.txt", "w\udcff1", (), "line 1 is not utf-8"),
        ("no.txt", None, (), "does not exist"),
    ],
)
def test_wrong_input_is_one_sentence(
    trained: Path, tmp_path: Path, name: str, content: str | None, more: tuple, sentence: str
) -> None:
    """Exit code 2, and no traceback."""
    if content is not None:
        (tmp_path / name).write_bytes(content.encode(errors="surrogateescape"))
    result = command("predict", trained, tmp_path / name, "--task", "kinds", *more)
    assert result.exit_code == 2, result.output
    assert re.search(sentence, result.stderr), result.stderr
