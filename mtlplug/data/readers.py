"""Readers of text files: CoNLL, TSV, CSV, JSON lines, MRQA and SQuAD, plain or gzip.

A reader yields records: the values under the file's own column names (numbers where it has no
names), and the place they come from. What is malformed ends in one sentence with file and line.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from mtlplug.data.text import lines, parse_json
from mtlplug.errors import MtlplugError

if TYPE_CHECKING:
    from mtlplug.data.sources import Source

Column = int | str
Record = tuple[dict[Column, Any], str]

MAX_SENTENCE = 10_000
"""Tokens after which a CoNLL file is taken to have no sentence breaks."""

SEPARATORS = {"tsv": "\t", "csv": ","}
QUOTING = {"tsv": "none", "csv": "standard"}


def read_conll(source: Source) -> Iterator[Record]:
    """One record per sentence: for each column asked for, the list of its fields.

    Columns are parted by a tab where a line has one, else by blanks; a line of blanks only ends
    a sentence. `-DOCSTART-` lines are sentences like any other.
    """
    path, columns = source.file, _numbers(source)
    filled = [column for name, column in columns.items() if name != "tokens"]
    # Columns counted from both ends must be distinct fields: a line with a token but no tag
    # would otherwise give its token as the tag.
    numbers = sorted(set(columns.values()))
    needed = max(0, numbers[-1] + 1) - min(0, numbers[0])
    sentence: dict[Column, Any] = {column: [] for column in numbers}
    first, length = 1, 0
    for number, line in chain(lines(path, source.encoding), [(0, "")]):
        if not line.strip(" \t"):
            if length:
                yield sentence, f"{path}, line {first}"
                sentence, length = {column: [] for column in numbers}, 0
            continue
        fields = _fields(line, source.separator)
        if len(fields) < needed or ("" in fields and not all(fields[c] for c in filled)):
            raise MtlplugError(
                f"{path}, line {number} lacks one of the columns {', '.join(map(str, numbers))}: "
                f"{line[:40]!r}; mend the line, or set columns in the suite"
            )
        for column in numbers:
            sentence[column].append(fields[column])
        first, length = first if length else number, length + 1
        if length > MAX_SENTENCE:
            raise MtlplugError(
                f"{path} has no empty line between sentences in {MAX_SENTENCE} lines from line "
                f"{first} on; put an empty line after each sentence"
            )


def _numbers(source: Source) -> dict[str, int]:
    columns = {name: c for name, c in source.mapping.items() if isinstance(c, int)}
    if len(columns) < len(source.mapping):
        raise MtlplugError(
            f"{source.file}: the columns of a CoNLL file are single numbers, "
            "for example columns = { tokens = 0, tags = -1 }"
        )
    return columns


def _fields(line: str, separator: str) -> list[str]:
    if separator or "\t" in line:
        fields = line.split(separator or "\t")
        return [field.strip(" ") for field in fields] if " " in line else fields
    # Not split(): tokens may hold a non-breaking space.
    return [field for field in line.split(" ") if field]


def read_delimited(source: Source) -> Iterator[Record]:
    """One record per line of a TSV or CSV file; a field the line lacks is None."""
    path = source.file
    rows = _quoted_rows(source) if _quoted(source) else _plain_rows(source)
    head = next(rows, None)
    if head is None:
        return
    names: list[Any] = head[1] if source.header else list(range(len(head[1])))
    doubles = {name for name in names if names.count(name) > 1}
    if doubles:
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
        record: dict[Column, Any] = dict.fromkeys(names)
        record.update(zip(names, fields, strict=False))
        yield record, f"{path}, line {number}"


def _quoted(source: Source) -> bool:
    return (source.quoting or QUOTING[source.kind]) == "standard"


def _plain_rows(source: Source) -> Iterator[tuple[int, list[str]]]:
    separator = source.separator or SEPARATORS[source.kind]
    for number, line in lines(source.file, source.encoding):
        if line:
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


def read_mrqa(source: Source) -> Iterator[Record]:
    """One record per question of an MRQA shared-task file, in SQuAD's shape.

    Answers are the slices of the context at `char_spans`, which are inclusive at both ends;
    `detected_answers.text` differs from them at times, and then the span is right.
    """
    for values, where in read_jsonl(source):
        if "header" in values:
            continue
        context = _get(values, "context", str, where)
        for question in _get(values, "qas", list, where):
            spans = [
                (span[0], context[span[0] : span[1] + 1])
                for answer in _get(question, "detected_answers", list, where)
                for span in _get(answer, "char_spans", list, where)
                if _checked(span, context, where)
            ]
            name = question.get("qid", question.get("id", ""))
            yield _question(name, question, context, list(dict.fromkeys(spans)), where), where


def _checked(span: Any, context: str, where: str) -> bool:
    whole = isinstance(span, list) and [type(place) for place in span] == [int, int]
    if whole and 0 <= span[0] <= span[1] < len(context):
        return True
    raise MtlplugError(
        f"{where}: char_spans holds {span!r:.40}, not [first, last] inside the context of "
        f"{len(context)} characters; mend or remove the question"
    )


def read_squad(source: Source) -> Iterator[Record]:
    """One record per question of a SQuAD 1.1 or 2.0 file; unanswerable ones have no answers."""
    where = str(source.file)
    text = "\n".join(line for _, line in lines(source.file, source.encoding))
    if not text.strip():
        return
    number = 0
    for article in _get(parse_json(text, where), "data", list, where):
        # Not a column of every file; a suite may keep the questions of an article together by it.
        title: dict[Column, Any] = {"title": article["title"]} if "title" in article else {}
        for paragraph in _get(article, "paragraphs", list, where):
            next_place = f"{where}, entry {number + 1}"
            context = _get(paragraph, "context", str, next_place)
            for question in _get(paragraph, "qas", list, next_place):
                number += 1
                place = f"{where}, entry {number}"
                spans = [
                    (_get(answer, "answer_start", int, place), _get(answer, "text", str, place))
                    for answer in _answers(question, place)
                ]
                record = _question(question.get("id", number), question, context, spans, place)
                yield record | title, place


def _answers(question: Any, where: str) -> list[Any]:
    # SQuAD 2.0 gives the unanswerable ones no answers (its plausible_answers are none).
    if isinstance(question, Mapping) and question.get("is_impossible"):
        return []
    answers: list[Any] = _get(question, "answers", list, where)
    return answers


def _question(
    name: Any, question: Any, context: str, spans: list[tuple[int, str]], where: str
) -> dict[Column, Any]:
    return {
        "id": str(name),
        "question": _get(question, "question", str, where),
        "context": context,
        "answers": {
            "text": [text for _, text in spans],
            "answer_start": [start for start, _ in spans],
        },
    }


def _get(values: Any, key: str, kind: type, where: str) -> Any:
    value = values.get(key) if isinstance(values, Mapping) else None
    if not isinstance(value, kind):
        found = f"is {value!r:.40}" if value is not None else "is missing"
        raise MtlplugError(f"{where}: '{key}' {found}; this reader needs a {kind.__name__} there")
    return value


READERS: dict[str, Callable[[Source], Iterator[Record]]] = {
    "conll": read_conll,
    "mrqa": read_mrqa,
    "squad": read_squad,
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
    ".tsv": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".jsonlines": "jsonl",
    ".ndjson": "jsonl",
    ".json": "squad",
    ".parquet": "parquet",
}
