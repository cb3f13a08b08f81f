"""Spans of tokens and of characters: a tool for formats that predict parts of a text.

Shapes: C tokens of a text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Span = tuple[int, int]


def best_spans(scores_C2: npt.NDArray[Any], longest: int, n_best: int) -> list[list[float]]:
    """The best of all spans of up to `longest` tokens, rows counted from 1."""
    if not len(scores_C2):
        return []
    longest = min(longest, len(scores_C2))
    ends = np.append(scores_C2[:, 1], np.full(longest - 1, -np.inf, scores_C2.dtype))
    # Column k of row i: the span from token i to token i + k.
    spans = scores_C2[:, :1] + np.lib.stride_tricks.sliding_window_view(ends, longest)
    # The n best spans start at the n tokens whose own best spans are highest.
    starts = np.argsort(-spans.max(1), kind="stable")[:n_best]
    flat = spans[starts].ravel()
    best = np.argsort(-flat, kind="stable")[:n_best]
    first = 1 + starts[best // longest]
    columns = first.tolist(), (first + best % longest).tolist(), flat[best].tolist()
    return [list(span) for span in zip(*columns, strict=True) if np.isfinite(span[2])]


def with_marks(context: str, offsets_C2: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Tokens with the combining marks after them that uncased tokenizers drop (Thai, Arabic)."""
    following_C = np.append(offsets_C2[1:, 0], len(context))
    for token in np.flatnonzero(offsets_C2[:, 1] < following_C):
        end = offsets_C2[token, 1]
        while end < following_C[token] and unicodedata.category(context[end])[0] == "M":
            end += 1
        offsets_C2[token, 1] = end
    return offsets_C2


def cuts_word(context: str, *edges: int) -> bool:
    """Whether an edge lies inside a word, in scripts that have capitals and so blanks."""
    sides = [context[edge - 1 : edge + 1] for edge in edges if 0 < edge < len(context)]
    return any(
        all(side.isdigit() or side.lower() != side.upper() for side in pair) for pair in sides
    )


def ranked_texts(found: Iterable[tuple[Span, float]], text: str) -> list[dict[str, Any]]:
    """Scored spans of characters, best first, each once and without the blanks around it.

    `{"text": ..., "start": first character, "end": the one after the last, "score": ...}`
    """
    best: dict[Span, float] = {}
    for (start, end), score in found:
        start = end - len(text[start:end].lstrip())
        end = start + len(text[start:end].rstrip())
        best[start, end] = max(score, best.get((start, end), -np.inf))
    return [
        {"text": text[start:end], "start": start, "end": end, "score": score}
        for (start, end), score in sorted(best.items(), key=lambda each: -each[1])
    ]
