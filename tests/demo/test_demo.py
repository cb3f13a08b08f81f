"""The demo suite: readable, consistent, and the same on every machine."""

from __future__ import annotations

import csv
import gzip
import json
import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModel, AutoTokenizer

from mtlplug.data.suites import Suite, load_suite
from mtlplug.demo import encoder
from mtlplug.demo import generate as demo
from mtlplug.demo.passages import fill, join
from mtlplug.demo.suite import SIZES
from mtlplug.demo.tagging import PEOPLE, Sentence, sentence, tags
from mtlplug.errors import MtlplugError
from mtlplug.plugin_manager import load_plugins

SL = ("people", "places", "orders", "fairs")
QA = ("almanac", "letters", "guide")
C = ("mood", "topics", "replies", "mail")
QUESTIONS = {"almanac": 3, "letters": 3, "guide": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo suite, written once for this module."""
    return demo.generate(tmp_path_factory.mktemp("demo") / "suite").parent


@pytest.fixture(scope="module")
def suite(folder: Path) -> Suite:
    """The demo suite as a run loads it."""
    return load_suite(str(folder / "suite.toml"), load_plugins().formats)


def files(folder: Path) -> dict[str, bytes]:
    """The bytes of every file under a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def rows(suite: Suite, task: str, split: str) -> list[dict[str, Any]]:
    """The rows of a split as a run reads them."""
    return list(suite.tasks[task].sources[split].rows())


def texts(suite: Suite, task: str, split: str) -> set[str]:
    """What the encoder reads of each row, without the questions."""
    found = rows(suite, task, split)
    if task in SL:
        return {" ".join(row["tokens"]) for row in found}
    if task in QA:
        return {row["context"] for row in found}
    return {f"{row['text']} {row.get('text_pair') or ''}" for row in found}


def labels(suite: Suite, task: str, split: str) -> set[str]:
    """The labels or tags of a split; for QA whether questions have answers."""
    found = rows(suite, task, split)
    if task in SL:
        return {tag for row in found for tag in row["tags"]}
    if task in QA:
        return {str(bool(row["answers"]["text"])) for row in found}
    return {row["label"] for row in found}


def test_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    """Data, tokenizer and encoder are a function of the seed alone."""
    again = files(demo.generate(tmp_path / "again").parent)
    assert again == files(folder)


def test_another_seed_gives_other_texts(folder: Path, tmp_path: Path) -> None:
    """Every data file, and the encoder, changes with the seed."""
    other, ours = files(demo.generate(tmp_path / "other", seed=14).parent), files(folder)
    assert other.keys() == ours.keys()
    fixed = {"suite.toml", "model/config.json", "model/tokenizer_config.json"}
    assert {name for name in ours if ours[name] == other[name]} <= fixed


def test_every_format_has_its_tasks(suite: Suite) -> None:
    """At least three SL, two QA and three C tasks for training, and one unseen target of each."""
    roles = Counter((task.format, task.role) for task in suite.tasks.values())
    wanted = {("SL", "pretrain"): 3, ("QA", "pretrain"): 2, ("C", "pretrain"): 3}
    assert roles == {**wanted, ("SL", "target"): 1, ("QA", "target"): 1, ("C", "target"): 1}
    for group in ("towns", "trade"):
        assert {suite.tasks[name].format for name in suite.groups[group]} == {"SL", "QA", "C"}


@pytest.mark.parametrize("task", SIZES)
def test_splits_have_the_rows_planned(suite: Suite, task: str) -> None:
    """The readers that real data goes through find every example that was written."""
    for split, count in zip(demo.SPLITS, SIZES[task], strict=True):
        assert len(rows(suite, task, split)) == count * QUESTIONS.get(task, 1)


@pytest.mark.parametrize("task", SIZES)
def test_validation_repeats_no_training_text(suite: Suite, task: str) -> None:
    """No text stands in both splits of a task, nor twice in one."""
    train, valid = (texts(suite, task, split) for split in demo.SPLITS)
    assert not train & valid
    assert (len(train), len(valid)) == SIZES[task]


@pytest.mark.parametrize("task", SL + C)
def test_validation_has_the_labels_of_training(suite: Suite, task: str) -> None:
    """Both splits of a task have the same labels, at least two."""
    train, valid = (labels(suite, task, split) for split in demo.SPLITS)
    assert len(train) >= 2
    assert train == valid


@pytest.mark.parametrize("task", C)
def test_no_text_has_two_labels(suite: Suite, task: str) -> None:
    """Labels are a function of the text, and none has more than two thirds of the rows."""
    found = [
        (row["text"], row.get("text_pair"), row["label"]) for row in rows(suite, task, "train")
    ]
    assert len({(text, pair) for text, pair, _ in found}) == len({*found})
    counts = [sum(label == name for *_, label in found) for name in labels(suite, task, "train")]
    assert max(counts) < 2 / 3 * len(found)


@pytest.mark.parametrize("task", QA)
def test_answers_stand_at_their_offsets(suite: Suite, task: str) -> None:
    """Every answer is the slice of its context at answer_start; contexts are short."""
    for split in demo.SPLITS:
        for row in rows(suite, task, split):
            answers = row["answers"]
            for text, start in zip(answers["text"], answers["answer_start"], strict=True):
                assert text
                assert row["context"][start : start + len(text)] == text
            assert 12 <= len(row["context"].split()) <= 80


def test_only_guide_has_questions_without_an_answer(suite: Suite) -> None:
    """A quarter of the questions of `guide` have none; all others have."""
    assert labels(suite, "almanac", "train") == labels(suite, "letters", "train") == {"True"}
    guide = rows(suite, "guide", "train")
    assert sum(not row["answers"]["text"] for row in guide) == SIZES["guide"][0]


def test_mrqa_spans_include_their_last_element(folder: Path) -> None:
    """Spans of characters and of tokens give the same answer."""
    lines = gzip.decompress((folder / "letters/valid.jsonl.gz").read_bytes()).splitlines()
    assert json.loads(lines[0]) == {"header": {"dataset": "letters", "split": "valid"}}
    for entry in map(json.loads, lines[1:]):
        for question in entry["qas"]:
            (found,) = question["detected_answers"]
            (first, last), (start, end) = *found["char_spans"], *found["token_spans"]
            assert entry["context"][first : last + 1] == found["text"] == question["answers"][0]
            tokens = entry["context_tokens"][start : end + 1]
            assert tokens[0][1] == first
            assert tokens[-1][1] + len(tokens[-1][0]) == last + 1


def test_tables_are_quoted_as_users_have_them(folder: Path) -> None:
    """GLUE's TSV holds bare quotes; the CSV quotes the cells that hold a comma."""
    plain = (folder / "mood/train.tsv").read_text(encoding="utf-8")
    assert '\n"' in plain
    assert '""' not in plain
    assert all(line.count("\t") == 1 for line in plain.splitlines())
    table = (folder / "replies/train.csv").read_text(encoding="utf-8")
    assert '"Yes, ' in table
    assert {len(row) for row in csv.reader(table.splitlines())} == {3}


def test_facts_are_shared_between_formats(suite: Suite) -> None:
    """People tagged in one format occur in the others; no one lives on both banks."""
    people = {
        split: {
            f"{first} {last}"
            for row in rows(suite, "people", split)
            for (first, one), (last, two) in pairwise(zip(row["tokens"], row["tags"], strict=True))
            if (one, two) == ("B-PER", "I-PER") and len(last) > 1
        }
        for split in demo.SPLITS
    }
    for task in ("letters", "mood"):
        for split, other in (demo.SPLITS, demo.SPLITS[::-1]):
            everything = "\n".join(texts(suite, task, split))
            assert any(person in everything for person in people[split])
            assert not any(person in everything for person in people[other])


def test_tag_schemes() -> None:
    """A sentence with neighbours of one type, in each scheme."""
    example = Sentence(("A", "B", "C", "-", "D"), (("T", 0, 2), ("T", 2, 3), ("U", 4, 5)))
    assert tags(example, "IOB2") == ["B-T", "I-T", "B-T", "O", "B-U"]
    assert tags(example, "IOB1") == ["I-T", "I-T", "B-T", "O", "I-U"]
    assert tags(example, "BILOU") == ["B-T", "L-T", "U-T", "O", "U-U"]
    assert tags(example, "plain") == ["T", "T", "T", "O", "U"]


def test_the_files_hold_their_schemes(suite: Suite) -> None:
    """`places` has B- only between neighbours, `orders` has BILOU, `fairs` bare types."""
    prefixes = {task: {tag[:2] for tag in labels(suite, task, "train") - {"O"}} for task in SL}
    assert prefixes["people"] == {"B-", "I-"}
    assert prefixes["orders"] == {"B-", "I-", "L-", "U-"}
    places = {"O", "B-TOWN", "I-TOWN", "I-RIVER", "I-HILLS", "I-YEAR"}
    assert labels(suite, "places", "train") == places
    assert labels(suite, "fairs", "train") == {"O", "EVENT", "TOWN", "PERSON", "COMPANY", "DATE"}


def test_filled_slots_keep_their_place() -> None:
    """Spans point at the values, also after joining, and become entities in words."""
    facts = {"person": "Ada L. Bell", "day": "Friday", "company": "Bell & Sons"}
    first = fill("{person} left on {day}.", facts)
    both = join([first, fill("the end of {company}.", facts)])
    assert both.text == "Ada L. Bell left on Friday. The end of Bell & Sons."
    found = [(span.slot, both.text[span.start : span.end]) for span in both.spans]
    assert found == list(facts.items())
    assert sentence(both, PEOPLE.types).entities == (("PER", 0, 4), ("ORG", 11, 14))


def test_tokenizer_and_encoder_open(folder: Path) -> None:
    """`AutoTokenizer` gives a fast tokenizer with pairs and types, `AutoModel` all its weights."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    encoded = tokenizer("Who lives there?", "Ada lives in Oakford.")
    pieces = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    border = pieces.index("[SEP]") + 1
    assert tokenizer.is_fast
    assert (pieces[0], pieces[-1]) == ("[CLS]", "[SEP]")
    assert encoded["token_type_ids"] == [0] * border + [1] * (len(pieces) - border)
    model, info = AutoModel.from_pretrained(folder / "model", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.config.vocab_size == len(tokenizer)


def test_no_word_of_the_corpus_is_unknown(folder: Path, suite: Suite) -> None:
    """The tokenizer spells the names it has never seen."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    found = [text for task in SIZES for text in texts(suite, task, "valid")]
    ids = tokenizer(sorted(found))["input_ids"]
    assert not any(tokenizer.unk_token_id in sequence for sequence in ids)
    assert max(map(len, ids)) <= suite.defaults["max_length"]


def test_nothing_is_left_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash on the last file leaves neither the folder nor a half written one."""

    def fail(*_: Any) -> None:
        assert len(list(tmp_path.rglob("train.*"))) == len(SIZES)
        raise OSError("disk full")

    monkeypatch.setattr(encoder, "save_encoder", fail)
    with pytest.raises(OSError, match="disk full"):
        demo.generate(tmp_path / "suite")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    """Generating into an existing folder is refused and touches nothing."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(MtlplugError, match="exists already"):
        demo.generate(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_cache_is_filled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers that start at once get one suite, written by one of them."""
    calls: list[Path] = []

    def write(folder: Path, seed: int = 0) -> Path:
        calls.append(folder)
        folder.mkdir()
        (folder / "suite.toml").touch()
        return folder / "suite.toml"

    monkeypatch.setenv("MTLPLUG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(demo, "generate", write)
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(demo.demo_suite_path())) for _ in "1234"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert {*found, demo.demo_suite_path()} == {calls[0] / "suite.toml"}
    assert calls[0].parent == tmp_path / "cache"


def test_an_unwritable_cache_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says which folder it was and how to choose another."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("MTLPLUG_CACHE", str(tmp_path / "file"))
    with pytest.raises(MtlplugError, match=r"file.*MTLPLUG_CACHE"):
        demo.demo_suite_path()
