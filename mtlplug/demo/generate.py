"""Writes the demo suite: data files, tokenizer, encoder and the suite file that names them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from random import Random
from uuid import uuid4

from filelock import FileLock

import mtlplug
from mtlplug.demo import encoder, files, reading, sorting, tagging, world
from mtlplug.demo.passages import Author
from mtlplug.demo.suite import SIZES, SUITE
from mtlplug.errors import MtlplugError

SEED = 13
SPLITS = ("train", "valid")
PEOPLE = {"train": 1500, "valid": 400}
"""How many people live on each bank of the world; towns and companies follow from it."""


def demo_suite_path() -> Path:
    """The demo's suite file in the cache folder, written there when absent.

    The cache folder is `$MTLPLUG_CACHE`, else `~/.cache/mtlplug`. Processes that start at once
    wait for the one that writes.

    Raises:
        MtlplugError: the cache folder cannot be written.
    """
    cache = Path(os.environ.get("MTLPLUG_CACHE") or "~/.cache/mtlplug").expanduser()
    folder = cache / f"demo-{_fingerprint()}"
    suite = folder / "suite.toml"
    if suite.exists():
        return suite
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{folder.name}.lock"):
            return suite if suite.exists() else generate(folder)
    except OSError as error:
        raise MtlplugError(
            f"cannot write the demo suite to '{cache}' ({error}); "
            "set MTLPLUG_CACHE to a folder that can be written"
        ) from error


def generate(folder: Path, seed: int = SEED) -> Path:
    """Write the demo suite as a new folder, whole or not at all.

    The same seed gives the same bytes.

    Returns:
        The suite file, `folder/suite.toml`.

    Raises:
        MtlplugError: the folder exists already.
    """
    folder = Path(folder)
    if folder.exists():
        raise MtlplugError(f"the demo folder '{folder}' exists already; remove it or name another")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}-{uuid4().hex[:8]}")
    try:
        _write(unfinished, seed)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder / "suite.toml"


def _fingerprint() -> str:
    """Changes with the version, the seed and the source of this package."""
    digest = hashlib.sha256(f"{mtlplug.__version__} {SEED}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def _write(folder: Path, seed: int) -> None:
    for task in SIZES:
        (folder / task).mkdir(parents=True)
    names: set[str] = set()
    seen: dict[str, set[str]] = {task: set() for task in SIZES}
    texts: dict[str, list[str]] = {}
    for split in SPLITS:
        bank = world.build(Random(f"{seed} {split}"), names, PEOPLE[split])
        authors = {
            task: Author(bank, Random(f"{seed} {split} {task}"), split == "valid", seen[task])
            for task in SIZES
        }
        texts[split] = [
            *_sequence_labelling(folder, split, authors),
            *_question_answering(folder, split, authors),
            *_classification(folder, split, authors),
        ]
    vocabulary = encoder.save_tokenizer(folder / "model", texts["train"])
    encoder.save_encoder(folder / "model", vocabulary, seed)
    (folder / "suite.toml").write_text(SUITE, encoding="utf-8")


def _count(task: str, split: str) -> int:
    return SIZES[task][SPLITS.index(split)]


def _sequence_labelling(folder: Path, split: str, authors: dict[str, Author]) -> Iterable[str]:
    """Write the tasks; give their texts."""
    for task, kind, scheme, line in (
        ("people", tagging.PEOPLE, "IOB2", "{word}\t{tag}"),
        ("places", tagging.PLACES, "IOB1", "{number} {word} {tag}"),
        ("orders", tagging.ORDERS, "BILOU", "{tag}\t{word}"),
        ("fairs", tagging.FAIRS, "plain", "{word}\t{tag}"),
    ):
        found = tagging.sentences(kind, authors[task], _count(task, split))
        files.write_conll(folder / task / f"{split}.conll", found, scheme, line)
        yield from (" ".join(sentence.words) for sentence in found)


def _question_answering(folder: Path, split: str, authors: dict[str, Author]) -> Iterable[str]:
    """Write the tasks; give their texts."""
    almanac = reading.almanac(authors["almanac"], _count("almanac", split))
    files.write_squad(folder / "almanac" / f"{split}.json", almanac)
    letters = reading.letters(authors["letters"], _count("letters", split))
    files.write_mrqa(folder / "letters" / f"{split}.jsonl.gz", "letters", split, letters)
    guide = reading.guide(authors["guide"], _count("guide", split))
    files.write_squad(folder / "guide" / f"{split}.json", guide, impossible=True)
    for text in [*almanac, *letters, *guide]:
        yield text.context
        yield from (question.text for question in text.questions)


def _classification(folder: Path, split: str, authors: dict[str, Author]) -> Iterable[str]:
    """Write the tasks; give their texts."""
    mood = sorting.mood(authors["mood"], _count("mood", split))
    files.write_tsv(folder / "mood" / f"{split}.tsv", ("sentence", "label"), mood)
    topics = sorting.topics(authors["topics"], _count("topics", split))
    files.write_jsonl(folder / "topics" / f"{split}.jsonl", ("line", "topic"), topics)
    replies = sorting.replies(authors["replies"], _count("replies", split))
    header = ("invitation", "reply", "coming")
    files.write_csv(folder / "replies" / f"{split}.csv", header, replies)
    mail = sorting.mail(authors["mail"], _count("mail", split))
    files.write_jsonl(folder / "mail" / f"{split}.jsonl", ("letter", "kind"), mail)
    for row in [*mood, *topics, *replies, *mail]:
        yield from row[:-1]
