"""Pairs of spans keep the contract."""

from mtlplug_span_pair import SpanPair

from mtlplug.testing import FormatContract

SENTENCES = {
    "money": ["the bank lends gold", "my bank is closed on Sundays", "the bank of the town"],
    "river": ["we sat on the bank and fished", "a green bank by the water"],
}


def row(first: str, second: str, label: str) -> dict:
    """A pair of sentences in which a word is marked."""
    spans = {
        f"{end}{which}": text.index("bank") + add
        for which, text in (("", first), ("_pair", second))
        for end, add in (("start", 0), ("end", 4))
    }
    return {"text": first, "text_pair": second, "label": label, **spans}


class TestSpanPair(FormatContract):
    """The same word in two sentences."""

    format = SpanPair()
    money, river = SENTENCES.values()
    rows = [
        row(money[0], money[1], "same"),
        row(money[2], river[0], "other"),
        row(river[0], river[1], "same"),
        row(river[1], money[1], "other"),
        row(money[2], money[0], "same"),
    ]


def test_the_head_reads_the_marked_words() -> None:
    """Reads are the first token of all, and the first token of each marked word."""
    specimen = TestSpanPair()
    specimen.setup_class()
    try:
        features = specimen.specimen.features(specimen.specimen.placed())
    finally:
        specimen.teardown_class()
    for feature, given in zip(features, TestSpanPair.rows, strict=True):
        (encoded,) = feature.sequences
        first, second = feature.reads[1:]
        assert (encoded.segments[first], encoded.segments[second]) == (0, 1)
        assert encoded.offsets[first][0] == given["start"]
        assert encoded.offsets[second][0] == given["start_pair"]
