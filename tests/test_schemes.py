"""Tag schemes: detection over a corpus and conversion to IOB2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2

from mtlplug.errors import MtlplugError
from mtlplug.schemes import SCHEMES, detect, iob2_labels, to_iob2

Chunk = tuple[str | None, int]
"""A type (None for words outside) and a number of words."""

CHUNKS = st.lists(
    st.tuples(st.sampled_from([None, "PER", "LOC", "AI/ML-task"]), st.integers(1, 4)), max_size=8
)
CORPUS = st.lists(CHUNKS, min_size=1, max_size=5)

PREFIXES = {
    # first, inside, last, single
    "IOB2": ("B", "I", "I", "B"),
    "BILOU": ("B", "I", "L", "U"),
    "BIOES": ("B", "I", "E", "S"),
    "BMEWO": ("B", "M", "E", "W"),
    "IOE": ("I", "I", "E", "E"),
}


def render(chunks: list[Chunk], scheme: str) -> list[str]:
    """A sentence of these chunks in a scheme."""
    tags: list[str] = []
    before = None
    for kind, size in chunks:
        if kind is None:
            tags += ["O"] * size
        elif scheme == "plain":
            tags += [kind] * size
        elif scheme in ("IOB1", "IO"):
            first = "B" if scheme == "IOB1" and kind == before else "I"
            tags += [f"{first}-{kind}"] + [f"I-{kind}"] * (size - 1)
        else:
            first, inside, last, single = PREFIXES[scheme]
            letters = [single] if size == 1 else [first, *[inside] * (size - 2), last]
            tags += [f"{letter}-{kind}" for letter in letters]
        before = kind
    return tags


def separated(chunks: list[Chunk]) -> list[Chunk]:
    """The same, with a word outside between entities of one type."""
    apart: list[Chunk] = []
    for kind, size in chunks:
        if apart and kind is not None and apart[-1][0] == kind:
            apart.append((None, 1))
        apart.append((kind, size))
    return apart


@pytest.mark.parametrize("scheme", SCHEMES)
@given(chunks=CHUNKS)
def test_every_scheme_converts_back(scheme: str, chunks: list[Chunk]) -> None:
    """Entities written in any scheme come back as the same IOB2, and nothing is repaired."""
    if scheme in ("IO", "plain"):
        chunks = separated(chunks)  # these schemes cannot tell neighbours of one type apart
    assert to_iob2(render(chunks, scheme), scheme) == (render(chunks, "IOB2"), 0)


@pytest.mark.parametrize("scheme", SCHEMES)
@given(corpus=CORPUS)
def test_whatever_is_detected_converts_right(scheme: str, corpus: list[list[Chunk]]) -> None:
    """Detection may name a related scheme for a small corpus, yet the IOB2 is the same."""
    corpus = [separated(chunks) for chunks in corpus]
    rendered = [render(chunks, scheme) for chunks in corpus]
    found = detect(rendered)
    assert [to_iob2(tags, found)[0] for tags in rendered] == [
        render(chunks, "IOB2") for chunks in corpus
    ]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_detect_names_the_scheme(scheme: str) -> None:
    """A corpus that shows all traits of a scheme is recognised."""
    chunks: list[Chunk] = [("PER", 3), (None, 1), ("LOC", 1), ("LOC", 2), ("PER", 1), (None, 2)]
    assert detect([render(chunks, scheme)] * 3) == scheme


@given(tags=st.lists(st.text("BIOESLUWM-_ax", max_size=4), max_size=12))
def test_any_tags_become_valid_iob2(tags: list[str]) -> None:
    """Whatever the tags, the result is as long, valid IOB2, and a fixed point."""
    converted, _ = to_iob2(tags, detect([tags]))
    assert len(converted) == len(tags)
    for before, tag in zip(["O", *converted], converted, strict=False):
        assert tag[0] in "BIO"
        if tag[0] == "I":
            assert before != "O"
            assert before[1:] == tag[1:]
    assert set(converted) <= set(iob2_labels(tags, detect([tags])))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_gold_against_gold_is_perfect(scheme: str) -> None:
    """Strict seqeval gives 1.0 for gold against gold after conversion, whatever the scheme."""
    chunks: list[Chunk] = [("PER", 2), (None, 1), ("AI/ML-task", 1), ("LOC", 3), (None, 1)]
    gold = [to_iob2(render(chunks, scheme), scheme)[0]]
    assert f1_score(gold, gold, mode="strict", scheme=IOB2) == 1.0


def test_gold_against_gold_fails_without_conversion() -> None:
    """Negative control: the same score on unconverted IO tags is 0."""
    gold = [["I-PER", "I-PER", "O", "I-LOC"]]
    assert f1_score(gold, gold, mode="strict", scheme=IOB2, zero_division=0) == 0.0


def test_violations_are_repaired_and_counted() -> None:
    """An entity that opens with I in IOB2 is opened with B; a lost prefix is made up for."""
    tags = ["O", "I-PER", "I-PER", "I-LOC", "O", "PER", "B-LOC"]
    fixed = ["O", "B-PER", "I-PER", "B-LOC", "O", "B-PER", "B-LOC"]
    assert to_iob2(tags, "IOB2") == (fixed, 3)


def test_few_violations_do_not_make_iob1() -> None:
    """A few I without their B leave a corpus IOB2; without any B it is IO."""
    good = ["B-PER", "I-PER", "O", "B-LOC"]
    assert detect([good] * 9 + [["O", "I-PER"]]) == "IOB2"
    assert detect([["I-PER", "O", "I-LOC"]]) == "IO"


def test_types_with_dashes_are_plain() -> None:
    """Types that hold dashes and slashes are types, not prefixes."""
    tags = ["O", "AI/ML/DL-focus", "AI/ML/DL-focus", "Computer/vision-dataset"]
    assert detect([tags]) == "plain"
    converted = ["O", "B-AI/ML/DL-focus", "I-AI/ML/DL-focus", "B-Computer/vision-dataset"]
    assert to_iob2(tags, "plain") == (converted, 0)


@pytest.mark.parametrize(
    ("tags", "scheme", "converted"),
    [
        (["B", "I", "O", "B"], "IOB2", ["B", "I", "O", "B"]),
        (["B_PER", "I_PER", "O"], "IOB2", ["B-PER", "I-PER", "O"]),
        (["L", "O", "P", "L", "L"], "plain", ["B-L", "O", "B-P", "B-L", "I-L"]),
        (["O", "O"], "IOB2", ["O", "O"]),
        ([], "IOB2", []),
    ],
    ids=["bare prefixes", "underscore", "one-letter types", "no entity", "empty"],
)
def test_odd_tags(tags: list[str], scheme: str, converted: list[str]) -> None:
    """Bare prefixes, underscores, one-letter types and sentences without entities."""
    assert detect([tags]) == scheme
    assert to_iob2(tags, scheme) == (converted, 0)


def test_labels_hold_both_prefixes() -> None:
    """B and I of every type are labels, outside first, whichever of them occur."""
    assert iob2_labels(["I-PER", "O", "I-LOC"], "IO") == [
        "O", "B-LOC", "I-LOC", "B-PER", "I-PER"
    ]  # fmt: skip


def test_unknown_scheme() -> None:
    """An unknown scheme is refused with the known ones."""
    with pytest.raises(MtlplugError, match=r"unknown tag scheme 'IOB3' .*; known: .*IOB2"):
        to_iob2(["O"], "IOB3")
