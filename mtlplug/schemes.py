"""Tag schemes of sequence labelling: detected over a corpus and converted to IOB2.

A tag is `O`, or a prefix and a type (`B-PER`, `I_LOC`, a bare `B`), or a type alone. One rule
reads every scheme: a tag continues the entity before it if that entity is still open, has the
same type, and the prefix does not begin one; otherwise it begins an entity.

| scheme | begins | goes on | ends | found in |
|---|---|---|---|---|
| IOB2 | B | I | | most corpora |
| IOB1 | I (B between two entities of one type) | I | | CoNLL-2003 |
| IO | I | I | | Wikigold, SEC filings |
| IOE | I | I | E | IOE1 and IOE2 |
| BILOU | B, U alone | I | L, U | spaCy |
| BIOES | B, S alone | I | E, S | Stanza, flair |
| BMEWO | B, W or S alone | M | E, W, S | Chinese word segmentation |
| plain | type changes | same type | | Few-NERD |
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from mtlplug.errors import unknown

OUTSIDE = "O"
PLAIN = "plain"
SCHEMES = ("IOB2", "IOB1", "IO", "IOE", "BILOU", "BIOES", "BMEWO", PLAIN)

_STRICT = frozenset({"IOB2", "BILOU", "BIOES", "BMEWO"})
"""Schemes in which an entity may not open with an inside or a last tag."""
_BEGINS = frozenset("BSUW")
_ENDS = frozenset("ELSUW")
_PREFIXED = re.compile(r"([BIEMSLUW])(?:[-_](.+))?")


def detect(sentences: Iterable[Sequence[str]]) -> str:
    """The scheme of a corpus, from the prefixes that occur and from the tags that open entities.

    Reads the sentences once. A corpus is prefixed if at least half of its tags other than `O`
    are, and it is IOB1 rather than IOB2 if more entities open with `I` than with `B` where no `B`
    is needed; a single prefix that other schemes lack (`L`, `U`, `M`, `W`, `S`) decides.

    >>> detect([["I-PER", "I-PER", "O", "I-LOC", "B-LOC"]])
    'IOB1'
    >>> detect([["AI/ML-task", "AI/ML-task", "O"]])
    'plain'
    """
    tags: Counter[str] = Counter()
    opening: Counter[str] = Counter()
    for sentence in sentences:
        tags.update(sentence)
        before: str | None = None
        for tag in sentence:
            prefix, kind = _parse(tag)
            if kind is not None and kind != before:
                opening[prefix] += 1
            before = kind
    return _scheme(tags, opening)


def to_iob2(tags: Sequence[str], scheme: str) -> tuple[list[str], int]:
    """The tags of one sentence in IOB2, and how many had to be repaired.

    A tag is repaired where it opens an entity that its scheme does not let it open (`I-PER`
    after `O` in IOB2), and where it lacks the prefix its scheme has.

    Raises:
        MtlplugError: the scheme is none of `SCHEMES`.

    >>> to_iob2(["U-PER", "O", "B-LOC", "L-LOC"], "BILOU")
    (['B-PER', 'O', 'B-LOC', 'I-LOC'], 0)
    >>> to_iob2(["O", "I-PER", "I-LOC"], "IOB2")
    (['O', 'B-PER', 'B-LOC'], 2)
    """
    if scheme not in SCHEMES:
        raise unknown("tag scheme", scheme, SCHEMES)
    converted = []
    repaired = 0
    opened: str | None = None
    for tag in tags:
        prefix, kind = _read(tag, scheme)
        if kind is None:
            converted.append(OUTSIDE)
            opened = None
            continue
        begins = prefix in _BEGINS or kind != opened
        misplaced = begins and prefix not in _BEGINS and scheme in _STRICT
        repaired += misplaced or (not prefix and scheme != PLAIN)
        converted.append(_label("B" if begins else "I", kind))
        opened = None if prefix in _ENDS else kind
    return converted, repaired


def iob2_labels(tags: Iterable[str], scheme: str) -> list[str]:
    """The IOB2 labels that sentences of these tags can be converted to, `O` first.

    Both `B` and `I` of every type: which of them occur depends on the sentences.

    >>> iob2_labels({"O", "U-PER", "B-LOC"}, "BILOU")
    ['O', 'B-LOC', 'I-LOC', 'B-PER', 'I-PER']
    """
    kinds = {kind for tag in tags if (kind := _read(tag, scheme)[1]) is not None}
    return [OUTSIDE, *(_label(prefix, kind) for kind in sorted(kinds) for prefix in "BI")]


def _scheme(tags: Counter[str], opening: Counter[str]) -> str:
    # A bare letter may be a type of its own ("L" for location) unless bare B or I occur too.
    bare = "B" in tags or "I" in tags
    entities = {tag: number for tag, number in tags.items() if tag != OUTSIDE}
    prefixes: Counter[str] = Counter()
    for tag, number in entities.items():
        prefix, kind = _parse(tag)
        prefixes[prefix if kind or bare else ""] += number
    if 2 * prefixes[""] > sum(prefixes.values()):
        return PLAIN
    found = prefixes.keys()
    if found & {"L", "U"}:
        return "BILOU"
    if found & {"M", "W"}:
        return "BMEWO"
    if "S" in found or {"B", "E"} <= found:
        return "BIOES"
    if "E" in found:
        return "IOE"
    if "I" in found and "B" not in found:
        return "IO"
    return "IOB1" if opening["I"] > opening["B"] else "IOB2"


def _read(tag: str, scheme: str) -> tuple[str, str | None]:
    """Prefix ("" for none) and type (None for `O`) of a tag."""
    if scheme == PLAIN:
        return "", None if tag == OUTSIDE else tag
    return _parse(tag)


@lru_cache(maxsize=4096)
def _parse(tag: str) -> tuple[str, str | None]:
    if tag == OUTSIDE:
        return "", None
    match = _PREFIXED.fullmatch(tag)
    return (match[1], match[2] or "") if match else ("", tag)


def _label(prefix: str, kind: str) -> str:
    return f"{prefix}-{kind}" if kind else prefix
