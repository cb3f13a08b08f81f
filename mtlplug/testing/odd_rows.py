"""Rows as careless files have them: empty, odd and missing values put into an author's own rows.

Whatever a row holds, a format makes features of it, drops it and counts it, or refuses it in one
sentence that names its place. Anything else stops somebody's run with a traceback.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtlplug.errors import MtlplugError
from mtlplug.formats import Feature, Row
from mtlplug.testing.failures import ContractError, require, sentence
from mtlplug.testing.specimen import Specimen, outcome

EMPTY = ("", "  ")
UNICODE = (
    "naïve café e\u0301\u0302",  # accents as letters of their own
    "👩‍👩‍👧 🇩🇪 👍🏽",  # several characters, one sign
    "ภาษาไทยไม่มีช่องว่าง",  # no blanks between words
    "مرحبا بالعالم עולם",  # from right to left
    "\u200b",  # what a tokenizer makes nothing of
    "\ufeff\u00a0\u3000",
    "x\x00\x07y",
)
WRONG: tuple[Any, ...] = (None, True, 7, -3.5, "?", [], {}, [None])
ROWS = 3
"""Rows that are spoilt, the first ones: every value of them, one at a time."""


def check_odd_values(specimen: Specimen, values: Sequence[Any], *, texts_only: bool) -> None:
    """Put each of the values in place of each value of some rows, one at a time.

    Raises:
        ContractError: the format broke on one, lost it without a word, or its loss is no number.
    """
    survivors: list[Feature] = []
    stories: list[str] = []
    for row in specimen.rows[:ROWS]:
        for spoilt, story in _spoilt(row, values, texts_only):
            features = _features(specimen, spoilt, story)
            survivors += features
            stories += [story] * len(features)
    if survivors:
        _check_losses(specimen, survivors, stories)


def _spoilt(
    row: Mapping[str, Any], values: Sequence[Any], texts_only: bool
) -> Iterator[tuple[dict[str, Any], str]]:
    for column, before in row.items():
        for value in values:
            if not texts_only or isinstance(before, str):
                yield {**row, column: value}, f"column '{column}' holds {value!r}"
            if isinstance(before, list) and before:
                inside = isinstance(before[0], str) or not texts_only
                if inside:
                    changed = [value, *before[1:]]
                    yield {**row, column: changed}, f"column '{column}' holds {changed!r:.60}"
        if texts_only and isinstance(before, list):
            yield {**row, column: []}, f"column '{column}' holds []"
    if texts_only:
        nothing = {
            key: type(value)() for key, value in row.items() if isinstance(value, str | list)
        }
        yield {**row, **nothing}, "all texts and lists are empty"


def _features(specimen: Specimen, row: Mapping[str, Any], story: str) -> list[Feature]:
    encode = specimen.builder().encode(specimen.data.task)
    place = "odd.jsonl, line 1"
    try:
        features = specimen.features([Row(row, place)], encode=encode)
    except MtlplugError as error:
        require(
            place in str(error),
            f"where {story}, the row is refused without its place: {error}",
            "begin the sentence with row.where",
        )
        return []
    except Exception as error:
        raise ContractError(
            f"where {story}, features() raises {sentence(error)}",
            "check the value and raise MtlplugError(f'{row.where}: ...') with what is wrong, or "
            "leave the row out and encode.count() it; row.value(column, type) does the former",
        ) from error
    require(
        features or encode.counts,
        f"where {story}, the row is lost without a word",
        "count what is left out: encode.count('rows without text')",
    )
    return features


def _check_losses(specimen: Specimen, features: list[Feature], stories: list[str]) -> None:
    try:
        data = specimen.stored(features)
        result = outcome(specimen.model(), data)
    except Exception as error:
        raise ContractError(
            f"among features of odd rows ({stories[0]}, ...): {sentence(error)}",
            "head, loss and decode must take features with few reads, or features() leave such "
            "rows out",
        ) from error
    for loss, story in zip(result.losses, stories, strict=True):
        require(
            abs(loss) < float("inf"),
            f"where {story}, the loss is {loss}",
            "a feature without a counted item has loss zero (mtlplug.ragged.mean_per_feature)",
        )
