"""Writes examples in the file formats users have: CoNLL, SQuAD, MRQA, TSV, CSV and JSONL."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mtlplug.demo.passages import words
from mtlplug.demo.reading import Question, Reading
from mtlplug.demo.tagging import Sentence, tags


def write_conll(
    path: Path, sentences: Iterable[Sentence], scheme: str, line: str = "{word}\t{tag}"
) -> None:
    """A word and its tag a line, an empty line after each sentence.

    Args:
        path: the file.
        sentences: what to write.
        scheme: how entities become tags (`mtlplug.demo.tagging.tags`).
        line: the columns, with `{number}` (of the word in its sentence), `{word}` and `{tag}`.
    """
    lines = []
    for sentence in sentences:
        pairs = zip(sentence.words, tags(sentence, scheme), strict=True)
        lines += [line.format(number=n, word=word, tag=tag) for n, (word, tag) in enumerate(pairs)]
        lines.append("")
    _write(path, "\n".join(lines) + "\n")


def write_tsv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table with tabs as GLUE writes it: nothing is quoted, a quote is an ordinary mark."""
    _write(path, "".join("\t".join(row) + "\n" for row in [header, *rows]))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table with commas; cells that hold a comma or a quote are quoted."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    _write(path, text.getvalue())


def write_jsonl(path: Path, keys: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A JSON object a line."""
    _write(path, _lines(dict(zip(keys, row, strict=True)) for row in rows))


def write_squad(path: Path, readings: Iterable[Reading], impossible: bool = False) -> None:
    """SQuAD 1.1, or 2.0 with `is_impossible` where there are questions without an answer."""
    data = []
    for number, reading in enumerate(readings):
        questions = []
        for index, question in enumerate(reading.questions):
            entry: dict[str, Any] = {
                "id": f"{number}-{index}",
                "question": question.text,
                "answers": _answers(reading, question),
            }
            if impossible:
                entry["is_impossible"] = question.start is None
            questions.append(entry)
        paragraph = {"context": reading.context, "qas": questions}
        data.append({"title": reading.title, "paragraphs": [paragraph]})
    version = "v2.0" if impossible else "1.1"
    _write(path, json.dumps({"version": version, "data": data}, indent=1) + "\n")


def write_mrqa(path: Path, dataset: str, split: str, readings: Iterable[Reading]) -> None:
    """The format of the MRQA shared task, gzip: a header line, then a context a line.

    Its spans, of characters and of tokens, include their last element.
    """
    lines: list[dict[str, Any]] = [{"header": {"dataset": dataset, "split": split}}]
    for number, reading in enumerate(readings):
        tokens = _tokens(reading.context)
        questions = [
            {
                "id": "",
                "qid": f"{dataset}-{split}-{number}-{index}",
                "question": question.text,
                "question_tokens": _tokens(question.text),
                "answers": [answer["text"] for answer in _answers(reading, question)],
                "detected_answers": _detected(reading, question),
            }
            for index, question in enumerate(reading.questions)
        ]
        lines.append(
            {"id": "", "context": reading.context, "qas": questions, "context_tokens": tokens}
        )
    # No time stamp: the same seed gives the same bytes.
    path.write_bytes(gzip.compress(_lines(lines).encode(), mtime=0))


def _answers(reading: Reading, question: Question) -> list[dict[str, Any]]:
    if question.start is None:
        return []
    text = reading.context[question.start : question.end]
    return [{"text": text, "answer_start": question.start}]


def _detected(reading: Reading, question: Question) -> list[dict[str, Any]]:
    if question.start is None or question.end is None:
        return []
    inside = [
        number
        for number, (_, start, end) in enumerate(words(reading.context))
        if question.start <= start and end <= question.end
    ]
    return [
        {
            "text": reading.context[question.start : question.end],
            "char_spans": [[question.start, question.end - 1]],
            "token_spans": [[inside[0], inside[-1]]],
        }
    ]


def _tokens(text: str) -> list[list[Any]]:
    return [[word, start] for word, start, _ in words(text)]


def _lines(objects: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in objects)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
