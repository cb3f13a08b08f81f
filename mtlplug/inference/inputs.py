"""Rows to predict, out of files or standard input, one after the other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from mtlplug.data.readers import ENDINGS, MAX_SENTENCE, Column
from mtlplug.data.sources import Source
from mtlplug.data.text import STDIN, decoded, lines, parse_json
from mtlplug.errors import MtlplugError, unknown
from mtlplug.formats import Row

TEXT = "text"
CONLL = "conll"
LINES = "lines"
"""Column of a CoNLL row: its lines as they are, with the empty ones behind it."""

SQUAD = "squad"
KINDS = (TEXT, CONLL, SQUAD, "jsonl", "tsv", "csv", "mrqa", "parquet")
PIECE = 1 << 16
"""Characters read at a time of a file that has no lines."""


def kind_of(path: Path, given: str | None) -> str:
    """How a file is read: as it was said, by what its name ends in, or line by line.

    Raises:
        MtlplugError: the kind is unknown.
    """
    if given is not None:
        if given not in KINDS:
            raise unknown("kind of input", given, KINDS)
        return given
    return ENDINGS.get(Path(path.name.removesuffix(".gz")).suffix.lower(), TEXT)


def read_rows(
    path: Path,
    kind: str,
    columns: Mapping[str, Column],
    encoding: str = "utf-8",
    *,
    header: bool = True,
) -> Iterator[Row]:
    """The rows of a file, as they are read.

    Args:
        path: the file; `-` for standard input.
        kind: one of `KINDS`. "text" has a row in each line, with the column `text`.
        columns: for a format's columns the file's own, as in a suite; of a CoNLL file `tokens`
            alone, which is the first where it is not said.
        encoding: as Python names it.
        header: whether the first line of a TSV or CSV file names its columns.

    Raises:
        MtlplugError: the file is not there or is malformed.
    """
    if kind == TEXT:
        for number, line in lines(path, encoding):
            yield Row({"text": line}, f"{path}, line {number}")
    elif kind == CONLL:
        yield from _sentences(path, columns.get("tokens", 0), encoding)
    elif kind == SQUAD:
        yield from _questions(path, encoding)
    else:
        if path == STDIN and kind == "parquet":
            raise MtlplugError("a Parquet file cannot be read from standard input; name the file")
        source = Source(path, reader=kind, columns=columns, encoding=encoding, header=header)
        yield from source.rows()


def _sentences(path: Path, column: Column, encoding: str) -> Iterator[Row]:
    """One row per sentence of a CoNLL file, which need not have tags."""
    if not isinstance(column, int):
        raise MtlplugError(f"column tokens is {column!r}; in a CoNLL file it is a number")
    tokens: list[str] = []
    kept: list[str] = []
    first = 1
    for number, line in lines(path, encoding):
        if line.strip(" \t"):
            if tokens and not kept[-1].strip(" \t"):
                yield Row({"tokens": tokens, LINES: kept}, f"{path}, line {first}")
                tokens, kept, first = [], [], number
            parted = line.split("\t") if "\t" in line else line.split(" ")
            fields = [field for field in parted if field]
            if not -len(fields) <= column < len(fields):
                raise MtlplugError(
                    f"{path}, line {number} has no column {column}: {line[:40]!r}; name the "
                    "column of the words with --column tokens=NUMBER"
                )
            tokens.append(fields[column])
            if len(tokens) > MAX_SENTENCE:
                raise MtlplugError(
                    f"{path} has no empty line between sentences in {MAX_SENTENCE} lines from "
                    f"line {first} on; put an empty line after each sentence"
                )
        kept.append(line)
    if tokens:
        yield Row({"tokens": tokens, LINES: kept}, f"{path}, line {first}")


def _questions(path: Path, encoding: str) -> Iterator[Row]:
    """One row per question of a SQuAD file, which need not have answers."""
    number = 0
    for article in _articles(path, encoding):
        try:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    number += 1
                    values = {"id": question.get("id", number), "question": question["question"]}
                    where = f"{path}, question {number}"
                    yield Row({**values, "context": paragraph["context"]}, where)
        except (KeyError, TypeError, AttributeError) as error:
            raise MtlplugError(
                f"{path}: after question {number} comes what is not SQuAD's ({error}); an article "
                "has paragraphs of a context and qas, each with a question"
            ) from None


def _articles(path: Path, encoding: str) -> Iterator[Any]:
    """The articles of a SQuAD file, each as soon as it is read."""
    pieces = decoded(path, encoding, PIECE)
    text, decoder, found = "", json.JSONDecoder(), None
    while found is None:
        piece = next(pieces, "")
        text += piece
        found = re.search(r'"data"\s*:\s*\[', text)
        if not piece and found is None:
            raise MtlplugError(f'{path} is no SQuAD file, which has a list of articles in "data"')
    text = text[found.end() :]
    while True:
        text = text.lstrip(" \t\r\n,")
        if text.startswith("]"):
            return
        try:
            article, end = decoder.raw_decode(text)
        except json.JSONDecodeError:
            # Twice as much each time, so that a long article is not looked through too often.
            more = "".join(islice(pieces, 1 + len(text) // PIECE))
            if not more:
                parse_json(text, f"{path}, its last article,")
                raise
            text += more
            continue
        yield article
        text = text[end:]
