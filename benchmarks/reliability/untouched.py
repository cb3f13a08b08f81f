"""What a mutated file says in its untouched parts, read without the package's readers.

Rows are compared with what `gold.Gold.stored` reads back from the stored tokens.
"""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

from gold import Stored


def expected(kind: str, original: bytes, mutated: bytes) -> list[Stored]:
    """What was not touched, as it must be stored: read here anew, without the package's readers."""
    if kind == "CoNLL":
        return _sentences(original, mutated)
    if kind in ("JSONL", "TSV"):
        return _rows(kind, original, mutated)
    if kind == "SQuAD":
        return _squad(original, mutated)
    if kind == "MRQA gzip":
        try:
            return expected("MRQA", gzip.decompress(original), gzip.decompress(mutated))
        except (OSError, EOFError, zlib.error):
            return []
    if kind == "MRQA":
        kept = set(mutated.split(b"\n"))
        lines = [line for line in original.split(b"\n")[1:] if line in kept]
        return [each for line in lines for each in _asked(json.loads(line))]
    return []


def _sentences(original: bytes, mutated: bytes) -> list[Stored]:
    kept = set(mutated.rstrip(b"\n").split(b"\n\n"))
    found: list[Stored] = []
    for block in original.rstrip(b"\n").split(b"\n\n"):
        if block in kept:
            words, tags = zip(
                *(line.split("\t") for line in block.decode().split("\n")), strict=True
            )
            found.append((words, tags))
    return found


def _rows(kind: str, original: bytes, mutated: bytes) -> list[Stored]:
    lines, kept = original.split(b"\n"), mutated.split(b"\n")
    if kind == "JSONL":
        rows = [json.loads(line) for line in lines if line in kept]
        return [(row["premise"], row["hypothesis"], str(row["label"])) for row in rows]
    if kept[0] != lines[0]:
        return []  # the columns mean something else
    fields = [line.decode().split("\t") for line in lines[1:] if line and line in kept]
    return [(text, "", label) for _, label, text, _ in fields]


def _squad(original: bytes, mutated: bytes) -> list[Stored]:
    try:
        articles = json.loads(mutated)["data"]
        kept = [
            (paragraph["context"], question)
            for article in articles
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]
    except (ValueError, TypeError, LookupError, RecursionError):
        return []
    return [
        (asked["question"], paragraph["context"], (asked["answers"] or [{"text": ""}])[0]["text"])
        for article in json.loads(original)["data"]
        for paragraph in article["paragraphs"]
        for asked in paragraph["qas"]
        if (paragraph["context"], asked) in kept
    ]


def _asked(line: dict[str, Any]) -> list[Stored]:
    found: list[Stored] = []
    for question in line["qas"]:
        (first, last), *_ = question["detected_answers"][0]["char_spans"]
        found.append((question["question"], line["context"], line["context"][first : last + 1]))
    return found


def lost(expected_rows: list[Stored], stored: list[Stored]) -> list[Stored]:
    """The expected rows of which no stored one has the texts and the labels."""
    return [row for row in expected_rows if not any(_alike(row, each) for each in stored)]


def _alike(row: Stored, stored: Stored) -> bool:
    if isinstance(row[0], tuple):  # words and tags; words without a token are not stored
        pairs = [pair for pair in zip(*row, strict=True) if pair[0]]
        same = len(pairs) == len(stored[0])
        return same and all(
            word == ours and label in (tag, None)
            for (word, tag), ours, label in zip(pairs, *stored, strict=True)
        )
    if len(row) == 3 and row[0] != stored[0]:
        return False
    window = stored[1] == row[1] or (stored[1] and stored[1] in row[1])
    return bool(window) and stored[2] in (row[2], None)
