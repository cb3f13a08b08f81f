"""Readers of text files: rows as the file has them, and one sentence where it is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from file_helpers import fault, rows, write

from mtlplug.data import readers
from mtlplug.data.sources import Source

# ---- CoNLL ----


@pytest.mark.parametrize("name", ["a.conll", "a.conll.gz", "a.bio"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_conll_sentences(tmp_path: Path, name: str, line_end: str) -> None:
    """Sentences end at empty or blank lines; first and last column, tabs or blanks."""
    lines = ["", "Anna NNP B-PER", "sings VB\tO", " ", "", "Bo  N B-PER", "-DOCSTART- X O", ""]
    path = write(tmp_path / name, line_end.join(lines))
    tabs = write(tmp_path / f"tabs-{name}", line_end.join(lines[:3]).replace(" ", "\t"))
    assert rows(tabs) == rows(path)[:1]
    assert rows(path) == [
        {"tokens": ["Anna", "sings"], "tags": ["B-PER", "O"]},
        {"tokens": ["Bo", "-DOCSTART-"], "tags": ["B-PER", "O"]},
    ]


def test_conll_columns(tmp_path: Path) -> None:
    """Any column serves, the same one twice too, and a token may hold a non-breaking space."""
    path = write(tmp_path / "a.conll", "O\t5\xa0storm\tx\nB-T\ttwo words\ty\n")
    columns = {"tokens": 1, "tags": 0, "words": 1}
    tokens = ["5\xa0storm", "two words"]
    assert rows(path, columns=columns) == [
        {"tokens": tokens, "tags": ["O", "B-T"], "words": tokens}
    ]


def test_conll_comments(tmp_path: Path) -> None:
    """Lines that begin with the comment sign are passed over where the suite names one."""
    text = "# sent_id = 1\n# text = a #\na\tX\n\n# sent_id = 2\nb\tX\n"
    path = write(tmp_path / "a.conllu", text)
    assert [row["tokens"] for row in rows(path, comment="#")] == [["a"], ["b"]]
    plain = write(tmp_path / "b.conll", "a\tX\n#\tY\n")
    assert [row["tokens"] for row in rows(plain)] == [["a", "#"]]


def test_conll_where(tmp_path: Path) -> None:
    """A row says in which line its sentence begins."""
    path = write(tmp_path / "a.conll", "\na O\nb O\n\n\nc O")
    assert [row.where for row in Source(path=path).rows()] == [f"{path}, line 2", f"{path}, line 6"]


@pytest.mark.parametrize("line", ["NN", "NN ", "NN\t", "NN\t ", "\tNN"])
def test_conll_without_tag(tmp_path: Path, line: str) -> None:
    """A line without a tag is an error that names it; an empty token with a tag is none."""
    path = write(tmp_path / "a.conll", f"a\tO\n{line}\nb\tO\n")
    if line.startswith("\t"):
        assert rows(path) == [{"tokens": ["a", "", "b"], "tags": ["O", "NN", "O"]}]
    else:
        assert f"{path}, line 2 lacks one of the columns -1, 0: 'NN" in fault(path)


def test_conll_without_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without empty lines is refused, one with a sentence of the limit is not."""
    monkeypatch.setattr(readers, "MAX_SENTENCE", 5)
    assert len(rows(write(tmp_path / "a.conll", "a O\n" * 5))) == 1
    message = fault(write(tmp_path / "b.conll", "x O\n\n" + "a O\n" * 6))
    assert "no empty line between sentences in 5 lines from line 3 on" in message


def test_conll_columns_are_numbers(tmp_path: Path) -> None:
    """Names of columns mean nothing in a CoNLL file."""
    path = write(tmp_path / "a.conll", "a O\n")
    assert "single numbers" in fault(path, columns={"tokens": "word", "tags": 1})


def test_real_broken_conll(real_data: Path) -> None:
    """The broken files as their sources ship them are refused with the place."""
    malware = real_data / "quirks" / "malware_one_column_line.tokens"
    assert f"{malware}, line 6668 lacks one of the columns" in fault(malware)
    first = next(Source(path=malware).rows())
    assert first["tokens"][0] == "Our"
    assert first["tokens"][-1] == "."
    europeana = real_data / "quirks" / "europeana_de_one_sentence_70k_tokens.bio.gz"
    assert "no empty line between sentences in 10000 lines" in fault(europeana)


# ---- TSV and CSV ----


def test_tsv_as_glue(tmp_path: Path) -> None:
    """Quotes in a TSV file are plain characters; a byte order mark and CRLF are taken off."""
    path = write(tmp_path / "a.tsv", b'\xef\xbb\xbfid\ttext\tlabel\r\n1\ta "b\t0\r\n2\t"c" d\t1')
    columns = {"text": "text", "label": -1}
    assert rows(path, columns=columns) == [
        {"text": 'a "b', "label": "0"},
        {"text": '"c" d', "label": "1"},
    ]


def test_csv_quotes(tmp_path: Path) -> None:
    """Quoted fields may hold separators, doubled quotes and line breaks; lines are counted."""
    path = write(tmp_path / "a.csv", 'text,label\n"a, ""b""\nc",0\nd,1\n')
    found = list(Source(path=path).rows())
    assert [dict(row) for row in found] == [
        {"text": 'a, "b"\nc', "label": "0"},
        {"text": "d", "label": "1"},
    ]
    assert [row.where for row in found] == [f"{path}, line 2", f"{path}, line 4"]


def test_quoting_and_separator(tmp_path: Path) -> None:
    """Both can be set against the file's ending."""
    path = write(tmp_path / "a.tsv", 'text;label\n"a;b";0\n')
    assert rows(path, quoting="standard", separator=";") == [{"text": "a;b", "label": "0"}]
    assert "3 fields where the first line has 2" in fault(path, separator=";")


def test_quotes_that_do_not_fit(tmp_path: Path) -> None:
    """A quote that never closes is an error, not a field that swallows the file."""
    path = write(tmp_path / "a.csv", 'text,label\na,0\n"b,1\nc,0\n')
    assert f"{path}: the quotes of the row at line 3 do not fit" in fault(path)
    assert len(rows(path, quoting="none")) == 3


def test_no_header(tmp_path: Path) -> None:
    """Without a header columns are numbers, counted from either end."""
    path = write(tmp_path / "a.tsv", "gj04\t1\t\tIt rains.\n")
    settings = {"header": False, "columns": {"text": 3, "label": -3}}
    assert rows(path, **settings) == [{"text": "It rains.", "label": "1"}]
    assert "has no column '4'; it has: 0, 1, 2, 3" in fault(path, header=False, columns={"text": 4})


def test_short_and_long_lines(tmp_path: Path) -> None:
    """Where fields are missing all are None; too many fields are an error."""
    short = write(tmp_path / "a.tsv", "text\tlabel\na b 0\n\nc\t1\n")
    assert rows(short) == [{"text": None, "label": None}, {"text": "c", "label": "1"}]
    long = write(tmp_path / "b.tsv", "text\tlabel\na\tb\t0\n")
    assert f"{long}, line 2 has 3 fields where the first line has 2" in fault(long)


def test_column_named_twice(tmp_path: Path) -> None:
    """A header that names a column twice is refused."""
    path = write(tmp_path / "a.tsv", "text\ttext\na\tb\n")
    assert "names the column 'text' twice" in fault(path)


def test_joined_columns(tmp_path: Path) -> None:
    """Several columns become one text, absent ones left out."""
    path = write(tmp_path / "a.jsonl", '{"a": 1, "b": 2, "c": 3}\n{"a": 4}\n')
    columns = {"text": ["a", "c"], "pair": ["b", "c"]}
    assert rows(path, columns=columns) == [
        {"text": "1 3", "pair": "2 3"},
        {"text": "4", "pair": None},
    ]


def test_huge_field(tmp_path: Path) -> None:
    """A field may be longer than the csv module's limit."""
    path = write(tmp_path / "a.csv", f"text\n{'word ' * 50_000}\n")
    assert len(rows(path)[0]["text"]) == 250_000


# ---- JSON ----


def test_jsonl(tmp_path: Path) -> None:
    """Values keep their types; dotted names reach into objects; empty lines are passed over."""
    lines = [
        {"passage": {"text": "p"}, "label": True, "a.b": 1},
        {"passage": {"text": None}},
        {"passage": "x"},
    ]
    path = write(tmp_path / "a.jsonl.gz", "\n\n".join(map(json.dumps, lines)))
    columns = {"text": "passage.text", "label": "label", "x": "a.b"}
    assert rows(path, columns=columns) == [
        {"text": "p", "label": True, "x": 1},
        {"text": None, "label": None, "x": None},
        {"text": None, "label": None, "x": None},
    ]
    assert "has no column 'passage.body'; it has: passage, label, a.b" in fault(
        path, columns={"text": "passage.body"}
    )


def test_all_columns_by_default(tmp_path: Path) -> None:
    """Without `columns` every row has all its own."""
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n{"b": 2}\n')
    assert rows(path) == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": 1', "line 2 is bad JSON (Expecting ',' delimiter at character 8)"),
        ("[1]", "line 2 is no JSON object: '[1]'"),
        ("nonsense", "line 2 is bad JSON"),
    ],
)
def test_bad_jsonl(tmp_path: Path, line: str, message: str) -> None:
    """A bad line is named."""
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n' + line)
    assert f"{path}, {message}" in fault(path)


def mrqa(spans: list[Any], **question: Any) -> str:
    """An MRQA file with one question on the context 'The Broncos won.'."""
    answers = [{"text": "The Broncos", "char_spans": [span]} for span in spans]
    asked = {"qid": "q1", "question": "Who?", "detected_answers": answers, **question}
    context = {"context": "The Broncos won.", "qas": [asked]}
    return json.dumps({"header": {"dataset": "X"}}) + "\n" + json.dumps(context) + "\n"


def test_mrqa(tmp_path: Path) -> None:
    """Spans hold their last character, give the text, and count once."""
    path = write(tmp_path / "a.jsonl.gz", mrqa([[4, 10], [4, 10], [0, 10]]))
    found = list(Source(path=path, reader="mrqa").rows())
    assert found == [
        {
            "id": "q1",
            "question": "Who?",
            "context": "The Broncos won.",
            "answers": {"text": ["Broncos", "The Broncos"], "answer_start": [4, 0]},
        }
    ]
    assert found[0].where == f"{path}, line 2"


@pytest.mark.parametrize("span", [[4], [4, 99], [-2, -1], [5, 4], "45", [4, 10.0]])
def test_bad_mrqa_span(tmp_path: Path, span: Any) -> None:
    """A span that is none, or lies outside the context, is an error with its line."""
    path = write(tmp_path / "a.jsonl", mrqa([span]))
    assert f"{path}, line 2: char_spans holds" in fault(path, reader="mrqa")


def test_mrqa_without_spans(tmp_path: Path) -> None:
    """A question without detected answers is an error with its line."""
    path = write(tmp_path / "a.jsonl", mrqa([], detected_answers=None))
    assert "line 2: 'detected_answers' is missing" in fault(path, reader="mrqa")


def squad(*questions: dict[str, Any]) -> str:
    """A SQuAD file with these questions on one context."""
    paragraphs = [{"context": "It rains.", "qas": list(questions)}]
    return json.dumps({"version": "x", "data": [{"title": "t", "paragraphs": paragraphs}]})


def test_squad(tmp_path: Path) -> None:
    """Versions 1 and 2: answers as they stand, unanswerable questions, ids as strings."""
    text = squad(
        {"id": 7, "question": "A?", "answers": [{"text": " rains", "answer_start": 3}]},
        {
            "id": "b",
            "question": "B?",
            "is_impossible": True,
            "answers": [],
            "plausible_answers": [{"text": "It", "answer_start": 0}],
        },
        {"id": "c", "question": "C?", "is_impossible": True},
    )
    path = write(tmp_path / "a.json", text)
    found = list(Source(path=path).rows())
    assert [row["id"] for row in found] == ["7", "b", "c"]
    assert [row["answers"] for row in found] == [
        {"text": [" rains"], "answer_start": [3]},
        {"text": [], "answer_start": []},
        {"text": [], "answer_start": []},
    ]
    assert found[2].where == f"{path}, entry 3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "'data' is missing"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', "entry 1: 'context' is missing"),
        (squad({"id": 1, "question": "A?"}), "entry 1: 'answers' is missing"),
        (squad({"id": 1, "question": 5, "answers": []}), "entry 1: 'question' is 5"),
        (squad({"id": 1, "question": "A?", "answers": [{"text": "x"}]}), "'answer_start' is"),
        (squad({"id": 1, "question": "A?", "answers": 3}), "'answers' is 3"),
        ('{"data": [', "is bad JSON (Expecting value at character 11)"),
    ],
)
def test_bad_squad(tmp_path: Path, text: str, message: str) -> None:
    """What is missing or cut off is named with the entry."""
    path = write(tmp_path / "a.json", text)
    found = fault(path)
    assert message in found
    assert str(path) in found
