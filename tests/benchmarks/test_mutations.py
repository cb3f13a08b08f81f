"""Damaged inputs, in short: read right or refused in a sentence; and the check can fail."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

RELIABILITY = Path(__file__).resolve().parents[2] / "benchmarks" / "reliability"
sys.path.insert(0, str(RELIABILITY))

import mutations  # noqa: E402
import mutators  # noqa: E402
import originals  # noqa: E402
import tally  # noqa: E402
import untouched  # noqa: E402

CASES = 175
EVERY = (*mutators.TABLES, *mutators.JSONS, *mutators.TOML)
KINDS = {kind.name: kind for kind in originals.KINDS}


def whole(kind: str, tokenizer: str = "bytes") -> tally.Case:
    """A case without any damage."""
    files = KINDS[kind].files() | {"mine.toml": KINDS[kind].tasks.encode()}
    name = KINDS[kind].file.format("valid")
    return tally.Case(0, kind, files, files[name], name, [], tokenizer)


def test_damaged_inputs() -> None:
    """No traceback, no hang, no label that moved, and no message that is not one sentence."""
    found = []
    for number in range(CASES):
        case = mutations.make_case(number, seed=7)
        found.append((case, mutations.run_case(case)))
    result = tally.summary(found)
    assert result["failures"] == []
    outcomes = Counter(each.outcome for _, each in found)
    assert min(outcomes[name] for name in ("accepted", "repaired", "refused")) > 10
    assert result["untouched_rows_checked"] > 200
    tally.table(result | {"controls": {}})


@pytest.mark.parametrize("tokenizer", ["bytes", "words"])
@pytest.mark.parametrize("kind", KINDS)
def test_whole_inputs_are_accepted(kind: str, tokenizer: str) -> None:
    """Nothing is wrong before something is damaged, and every row is compared with the file."""
    found = mutations.run_case(whole(kind, tokenizer))
    assert found.outcome == "accepted", found
    if tokenizer == "bytes":  # the other one's texts cannot be read back
        assert found.untouched >= 10


def test_the_whole_suite_is_accepted() -> None:
    """So is the suite that is damaged as TOML."""
    files = {name: data for kind in originals.KINDS for name, data in kind.files().items()}
    suite = originals.SUITE.encode()
    case = tally.Case(0, "TOML", files | {"mine.toml": suite}, suite, "mine.toml", [], "bytes")
    assert mutations.run_case(case).outcome == "accepted"


def test_shifts_are_noticed() -> None:
    """Readers and a store that shift labels by one are found out, for every kind of input."""
    found = mutations.controls()
    assert len(found) == 11
    assert set(found.values()) == {"label shift"}


def test_a_traceback_and_a_hang_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other errors than ours are no refusals, and what takes too long is stopped."""

    def fails(source: Any) -> Iterator[Any]:
        raise KeyError("tags")

    def sleeps(source: Any) -> Iterator[Any]:
        time.sleep(60)
        yield {}, ""

    readers = "mtlplug.data.sources.ALL_READERS"
    with patch.dict(readers, {"conll": fails}):
        assert mutations.run_case(whole("CoNLL")).outcome == "traceback"
    monkeypatch.setattr(mutations, "LIMIT", 1)
    with patch.dict(readers, {"conll": sleeps}):
        assert mutations.run_case(whole("CoNLL")).outcome == "hang"


def test_a_row_that_lost_its_label_is_noticed() -> None:
    """Rows are looked for with their texts and their labels."""
    kind = KINDS["TSV"]
    original = kind.make("valid")
    rows = untouched.expected("TSV", original, original)
    assert len(rows) == 15
    assert untouched.lost(rows, rows) == []
    assert untouched.lost(rows, rows[1:]) == rows[:1]
    text, second, label = rows[0]
    assert untouched.lost(rows[:1], [(text, second, label + "x")]) == rows[:1]
    assert untouched.lost(rows[:1], [(text, second, None)]) == []  # a label training never had
    damaged = original.replace(b"valid3", b"valid30")
    assert len(untouched.expected("TSV", original, damaged)) == 14


def test_cases_follow_from_number_and_seed() -> None:
    """A failure can be made again from its number alone; another seed makes another case."""
    for number in range(14):
        assert mutations.make_case(number, 1) == mutations.make_case(number, 1)
    assert any(mutations.make_case(n, 1) != mutations.make_case(n, 2) for n in range(14))


@pytest.mark.parametrize("mutate", dict.fromkeys(EVERY))
def test_every_mutation_takes_any_bytes(mutate: mutators.Mutator) -> None:
    """Mutations follow each other, so that none may ask for whole input; each changes something."""
    content = originals.jsonl("train").split(b"\n")[0] + b"\na\t1 = 2\n"
    changed = 0
    for number in range(40):
        draw = random.Random(number)
        changed += mutate(content, draw) != content
        for odd in (b"\xff", b"\n", b"0", b"[" * 3000, draw.randbytes(50)):
            assert isinstance(mutate(odd, draw), bytes)
    assert changed
