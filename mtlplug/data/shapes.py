"""Question-answering datasets of other shapes, read as SQuAD's rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mtlplug.data.hub import read_hub
from mtlplug.data.questions import answer_at
from mtlplug.data.readers import Column, Record, read_jsonl
from mtlplug.errors import MtlplugError

if TYPE_CHECKING:
    from mtlplug.data.sources import Source

MRQA_COLUMNS = ("subset", "qid", "question", "context", "detected_answers")
"""What is read of the dataset; its lists of tokens are many times as much."""


def read_mrqa_table(source: Source) -> Iterator[Record]:
    """One record per row of the MRQA dataset as the hub holds it (`mrqa-workshop/mrqa`).

    Each of `detected_answers` has a list of `char_spans`, inclusive at both ends, whose slices of
    the context are the answers, and their text (`answer_at`). The column `subset` names the
    dataset a row is from.
    """
    for values, where in read_hub(source, MRQA_COLUMNS):
        context = _text(values, "context", where)
        spans = [
            (start, answer_at(start, end + 1, context, text))
            for start, end, text in _spans(values.get("detected_answers"), where)
            if _inside(start, end, context, where)
        ]
        record = _record(values, "qid", "question", context, spans, where)
        yield {**record, "subset": values.get("subset")}, where


def read_qed(source: Source) -> Iterator[Record]:
    """One record per line of QED's JSON lines; the answers are Natural Questions' own.

    Spans are exclusive at the end; those of all annotators count, each once.
    """
    for values, where in read_jsonl(source):
        context = _text(values, "paragraph_text", where)
        spans = [
            (start, context[start:end])
            for start, end in _qed_spans(values.get("original_nq_answers"), where)
            if _inside(start, end - 1, context, where)
        ]
        yield _record(values, "example_id", "question_text", context, spans, where), where


def _spans(detected: Any, where: str) -> Iterator[tuple[int, int, Any]]:
    """Starts, ends, texts; a sequence of structs is stored as lists in a struct, or as it is."""
    try:
        answers = _lists(detected, "char_spans", "text")
        for spans, text in zip(answers["char_spans"], answers["text"], strict=True):
            lists = _lists(spans, "start", "end")
            for start, end in zip(lists["start"], lists["end"], strict=True):
                yield start, end, text
    except (KeyError, TypeError, ValueError):
        raise _wrong("detected_answers", detected, where) from None


def _lists(value: Any, *keys: str) -> Any:
    return {key: [each[key] for each in value] for key in keys} if type(value) is list else value


def _qed_spans(answers: Any, where: str) -> Iterator[tuple[int, int]]:
    try:
        for annotator in answers:
            for span in annotator:
                yield span["start"], span["end"]
    except (KeyError, TypeError):
        raise _wrong("original_nq_answers", answers, where) from None


def _wrong(column: str, value: Any, where: str) -> MtlplugError:
    return MtlplugError(
        f"{where}: '{column}' is {value!r:.60}, not the spans of answers; set another reader in "
        "the suite"
    )


def _inside(start: Any, end: Any, context: str, where: str) -> bool:
    if type(start) is type(end) is int and 0 <= start <= end < len(context):
        return True
    raise MtlplugError(
        f"{where}: the answer from character {start} to {end} does not lie in the context of "
        f"{len(context)} characters; mend or remove the question"
    )


def _text(values: Mapping[Column, Any], column: str, where: str) -> str:
    value = values.get(column)
    if not isinstance(value, str):
        raise MtlplugError(
            f"{where}: '{column}' is {value!r:.40}, not a text; set another reader in the suite"
        )
    return value


def _record(
    values: Mapping[Column, Any],
    name: str,
    question: str,
    context: str,
    spans: list[tuple[int, str]],
    where: str,
) -> dict[Column, Any]:
    unique = list(dict.fromkeys(spans))
    return {
        "id": str(values.get(name)),
        "question": _text(values, question, where),
        "context": context,
        "answers": {
            "text": [text for _, text in unique],
            "answer_start": [start for start, _ in unique],
        },
    }
