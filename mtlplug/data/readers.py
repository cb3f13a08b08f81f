"""Readers of text files: CoNLL, TSV, CSV and JSON lines, plain or gzip.

A reader yields records: the values under the file's own column names (numbers where it has no
names), and the place they come from. What is malformed ends in one sentence with file and line.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from mtlplug.data.text import lines, parse_json
from mtlplug.errors import MtlplugError

if TYPE_CHECKING:
    from pathlib import Path

    from mtlplug.data.sources import Source

Column = int | str
Record = tuple[dict[Column, Any], str]

MAX_SENTENCE = 10_000
"""Tokens after which a CoNLL file is taken to have no sentence breaks."""

SEPARATORS = {"tsv": "\t", "csv": ","}
QUOTING = {"tsv": "none", "csv": "standard"}


def read_conll(source: Source) -> Iterator[Record]:
    """One record per sentence: for each column asked for, the list of its fields.

    Columns are parted by tabs where the first line has one, else by blanks; a line of blanks
    only ends a sentence. `-DOCSTART-` lines are sentences like any other. Lines that begin with
    `Source.comment` are passed over.
    """
    path, columns = source.file, _numbers(source)
    numbers = sorted(set(columns.values()))
    sentence: dict[Column, Any] = {column: [] for column in numbers}
    first, length = 1, 0
    for number, fields in chain(_conll_lines(source, columns), [(0, [])]):
        if not fields:
            if length:
                yield sentence, f"{path}, line {first}"
                sentence, length = {column: [] for column in numbers}, 0
            continue
        for column in numbers:
            sentence[column].append(fields[column])
        first, length = first if length else number, length + 1
        if length > MAX_SENTENCE:
            raise MtlplugError(
                f"{path} has no empty line between sentences in {MAX_SENTENCE} lines from line "
                f"{first} on; put an empty line after each sentence"
            )


def _conll_lines(source: Source, columns: Mapping[str, int]) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line; no fields where a sentence ends."""
    path, separator, width = source.file, source.separator, 0
    filled = [column for name, column in columns.items() if name != "tokens"]
    # Columns counted from both ends must be distinct fields: a line with a token but no tag
    # would otherwise give its token as the tag.
    needed = max(0, max(columns.values()) + 1) - min(0, min(columns.values()))
    for number, line in lines(path, source.encoding):
        if source.comment and line.startswith(source.comment):
            continue
        if not line.strip(" \t"):
            yield number, []
            continue
        _check_returns(line, path, number)
        if not width:
            separator = separator or ("\t" if "\t" in line else "")
        fields = _fields(line, separator)
        if len(fields) < needed or ("" in fields and not all(fields[c] for c in filled)):
            raise MtlplugError(
                f"{path}, line {number} lacks one of the columns "
                f"{', '.join(map(str, sorted(set(columns.values()))))}: {line[:40]!r}; mend the "
                "line, or set columns in the suite"
            )
        width = width or len(fields)
        # The last column of a line that has lost one is another one than the tag's.
        if len(fields) != width:
            raise MtlplugError(
                f"{path}, line {number} has {len(fields)} columns where the first line has "
                f"{width}: {line[:40]!r}; mend the line, or set separator in the suite"
            )
        yield number, fields


def _numbers(source: Source) -> dict[str, int]:
    columns = {name: c for name, c in source.mapping.items() if isinstance(c, int)}
    if len(columns) < len(source.mapping):
        raise MtlplugError(
            f"{source.file}: the columns of a CoNLL file are single numbers, "
            "for example columns = { tokens = 0, tags = -1 }"
        )
    return columns


def _fields(line: str, separator: str) -> list[str]:
    if separator:
        fields = line.split(separator)
        return [field.strip(" ") for field in fields] if " " in line else fields
    # Not split(): tokens may hold a non-breaking space.
    return [field for field in line.replace("\t", " ").split(" ") if field]


def _check_returns(line: str, path: Path, number: int) -> None:
    """A carriage return inside a line may have ended a line, or a sentence, of its own."""
    if "\r" in line:
        raise MtlplugError(
            f"{path}, line {number} holds a carriage return: {line[:40]!r}; end all lines with a "
            "line feed (the file may come from an old Mac)"
        )


def read_delimited(source: Source) -> Iterator[Record]:
    """One record per line of a TSV or CSV file.

    Of a line that lacks fields all are None: which it lacks cannot be told. So the task's format
    drops and counts it, or refuses it.
    """
    path = source.file
    rows = _quoted_rows(source) if _quoted(source) else _plain_rows(source)
    head = next(rows, None)
    if head is None:
        return
    names: list[Any] = head[1] if source.header else list(range(len(head[1])))
    if doubles := [name for name, number in Counter(names).items() if number > 1]:
        raise MtlplugError(
            f"{path}, line {head[0]} names the column '{min(doubles)}' twice; rename one, or set "
            "header = false if this is no header"
        )
    for number, fields in rows if source.header else chain([head], rows):
        if len(fields) > len(names):
            raise MtlplugError(
                f"{path}, line {number} has {len(fields)} fields where the first line has "
                f"{len(names)}; a field holds the separator, or quoting or separator is set wrong"
            )
        whole = fields if len(fields) == len(names) else [None] * len(names)
        yield dict(zip(names, whole, strict=True)), f"{path}, line {number}"


def _quoted(source: Source) -> bool:
    return (source.quoting or QUOTING[source.kind]) == "standard"


def _plain_rows(source: Source) -> Iterator[tuple[int, list[str]]]:
    separator = source.separator or SEPARATORS[source.kind]
    for number, line in lines(source.file, source.encoding):
        if line:
            _check_returns(line, source.file, number)
            yield number, line.split(separator)


def _quoted_rows(source: Source) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(2**31 - 1)  # whole papers stand in one field; the default is 128 KiB
    text = (line + "\n" for _, line in lines(source.file, source.encoding))
    separator = source.separator or SEPARATORS[source.kind]
    reader, start = csv.reader(text, delimiter=separator, strict=True), 1
    try:
        for fields in reader:
            if fields:
                yield start, fields
            start = reader.line_num + 1
    except csv.Error as error:
        raise MtlplugError(
            f"{source.file}: the quotes of the row at line {start} do not fit ({error}); "
            'set quoting = "none" in the suite if quotes are plain characters'
        ) from None


def read_jsonl(source: Source) -> Iterator[Record]:
    """One record per JSON object; empty lines are passed over."""
    path = source.file
    for number, line in lines(path, source.encoding):
        if line.strip():
            where = f"{path}, line {number}"
            values = parse_json(line, where)
            if not isinstance(values, dict):
                raise MtlplugError(f"{where} is no JSON object: {line[:40]!r}")
            yield values, where


READERS: dict[str, Callable[[Source], Iterator[Record]]] = {
    "conll": read_conll,
    "tsv": read_delimited,
    "csv": read_delimited,
    "jsonl": read_jsonl,
}
ENDINGS = {
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".tokens": "conll",
    ".conllu": "conll",
    ".tsv": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".jsonlines": "jsonl",
    ".ndjson": "jsonl",
    ".json": "squad",
    ".parquet": "parquet",
}
