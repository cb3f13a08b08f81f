"""Readers of question-answering files: MRQA and SQuAD. Rows have SQuAD's shape."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mtlplug.data.readers import Column, Record, read_jsonl
from mtlplug.data.text import lines, parse_json
from mtlplug.errors import MtlplugError

if TYPE_CHECKING:
    from mtlplug.data.sources import Source


def read_mrqa(source: Source) -> Iterator[Record]:
    """One record per question of an MRQA shared-task file, in SQuAD's shape.

    Answers are the slices of the context at `char_spans`, which are inclusive at both ends (see
    `answer_at` for what becomes of `detected_answers.text`).
    """
    for values, where in read_jsonl(source):
        if "header" in values:
            continue
        context = _get(values, "context", str, where)
        for question in _get(values, "qas", list, where):
            spans = [
                (span[0], answer_at(span[0], span[1] + 1, context, answer.get("text")))
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


def answer_at(start: int, end: int, context: str, text: Any) -> str:
    """The context from `start` to `end`, or `text` where the span must be wrong.

    Text and slice differ at times in case, articles and punctuation (SQuAD in MRQA), and then
    the slice is right. Where they have other words and the context has the text, the span is
    not the text's; whoever makes features of the rows looks for it and counts.
    """
    found = context[start:end]
    if text == found or not isinstance(text, str) or text not in context:
        return found
    return found if _words(text) == _words(found) else text


def _words(text: str) -> list[str]:
    plain = re.sub(r"[^\w\s]|_", "", text.lower())
    return [word for word in plain.split() if word not in ("a", "an", "the")]


def read_squad(source: Source) -> Iterator[Record]:
    """One record per question of a SQuAD 1.1 or 2.0 file; unanswerable ones have no answers."""
    where = str(source.file)
    text = "\n".join(line for _, line in lines(source.file, source.encoding))
    if not text.strip():
        return
    number = 0
    for article in _get(parse_json(text, where), "data", list, where):
        paragraphs = _get(article, "paragraphs", list, where)
        # Not a column of every file; a suite may keep the questions of an article together by it.
        title: dict[Column, Any] = {"title": article["title"]} if "title" in article else {}
        for paragraph in paragraphs:
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
    if isinstance(question, Mapping) and question.get("is_impossible") is not None:
        impossible = _get(question, "is_impossible", bool, where)
        if impossible and "answers" not in question:
            return []
        if impossible == bool(answers := _get(question, "answers", list, where)):
            raise MtlplugError(
                f"{where}: 'is_impossible' is {str(impossible).lower()}, but there are "
                f"{len(answers) or 'no'} answers; mend one of the two"
            )
    found: list[Any] = _get(question, "answers", list, where)
    return found


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
    if type(value) is not kind:
        found = f"is {value!r:.40}" if value is not None else "is missing"
        raise MtlplugError(f"{where}: '{key}' {found}; this reader needs a {kind.__name__} there")
    return value
