"""Small valid inputs of every kind, to be mutated: data files, and the suites that name them."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

WORDS = (
    "Ada", "sings", "the", "old", "song", "of", "Straße", "12", "-", "naïve", "o'clock", "كتاب",
    "שלום", "東京", "e\u0301te\u0301", "\U0001f469\u200d\U0001f680", "3.14", "B-PER", "ไทย", "Bo",
    "rains", "#1", "'quoted'", '"so"', "a", "the", "an",
)  # fmt: skip
SPLITS = ("train", "valid")


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Attributes:
        name: for people.
        file: name of the file of a split, with `{}` for the split's.
        tasks: the suite's tables of tasks.
        make: the content of a split's file.
    """

    name: str
    file: str
    tasks: str
    make: Callable[[str], bytes]

    def files(self) -> dict[str, bytes]:
        """The content of the data files by name."""
        return {self.file.format(split): self.make(split) for split in SPLITS}


def words(draw: random.Random, number: int) -> list[str]:
    """Words in several scripts, some with quotes, marks and joiners."""
    return [draw.choice(WORDS) for _ in range(number)]


def conll(split: str) -> bytes:
    """Sentences in IOB2; the first word of each occurs nowhere else."""
    draw, blocks = random.Random(split), []
    for number in range(14):
        sentence = [f"{split}{number}", *words(draw, draw.randint(2, 8))]
        tags: list[str] = []
        while len(tags) < len(sentence):
            kind = draw.choice(["", "PER", "LOC"])
            length = draw.randint(1, 3)
            tags += [f"B-{kind}", *[f"I-{kind}"] * (length - 1)] if kind else ["O"] * length
        lines = [f"{word}\t{tag}" for word, tag in zip(sentence, tags, strict=False)]
        blocks.append("\n".join(lines))
    return ("\n\n".join(blocks) + "\n").encode()


def jsonl(split: str) -> bytes:
    """Pairs of texts with a number as label."""
    draw = random.Random(split)
    rows = [
        {
            "premise": " ".join([f"{split}{number}", *words(draw, 6)]),
            "hypothesis": " ".join(words(draw, 3)),
            "label": number % 3,
        }
        for number in range(15)
    ]
    return "\n".join(
        json.dumps(row, ensure_ascii=number % 2 > 0) for number, row in enumerate(rows)
    ).encode()


def tsv(split: str) -> bytes:
    """Texts with a word as label, between two columns that are not read."""
    draw = random.Random(split)
    lines = ["id\tkind\tsentence\tnote"]
    for number in range(15):
        text = " ".join([f"{split}{number}", *words(draw, 6)])
        lines.append(f"{number}\t{('good', 'bad', 'mixed')[number % 3]}\t{text}\t-")
    return ("\n".join(lines) + "\n").encode()


def paragraphs(split: str) -> list[dict[str, Any]]:
    """Contexts with questions; the last context is long, every third question without answer."""
    draw, found = random.Random(split), []
    for number in range(5):
        parts = [f"{split}{number}", *words(draw, 150 if number == 4 else 20)]
        context = " ".join(parts)
        asked = []
        for which in range(3):
            first = draw.randrange(len(parts) - 3)
            start = sum(len(part) + 1 for part in parts[:first])
            answers = [{"text": " ".join(parts[first : first + 2]), "answer_start": start}]
            asked.append(
                {
                    "id": f"{split}-{number}-{which}",
                    "question": f"{split} {number} {which} who {draw.choice(WORDS)}?",
                    "answers": [] if which == 2 else answers,
                    "is_impossible": which == 2,
                }
            )
        found.append({"context": context, "qas": asked})
    return found


def squad(split: str) -> bytes:
    """SQuAD 2.0."""
    data = [{"title": split, "paragraphs": [each]} for each in paragraphs(split)]
    return json.dumps({"version": "2.0", "data": data}, indent=1, ensure_ascii=False).encode()


def mrqa(split: str) -> bytes:
    """MRQA: the answers' ends are inclusive, every question has one."""
    lines: list[dict[str, Any]] = [{"header": {"dataset": "made", "split": split}}]
    for paragraph in paragraphs(split):
        asked = []
        for question in paragraph["qas"]:
            detected = [
                {"text": text, "char_spans": [[start, start + len(text) - 1]]}
                for text, start in (
                    (each["text"], each["answer_start"]) for each in question["answers"]
                )
            ]
            if detected:
                named = {"qid": question["id"], "question": question["question"]}
                asked.append({**named, "detected_answers": detected})
        lines.append({"context": paragraph["context"], "qas": asked})
    return "\n".join(json.dumps(line) for line in lines).encode()


LABELLING = """
[tasks.task]
format = "SL"
train = "train.conll"
valid = "valid.conll"
"""
CLASSES = """
[tasks.task]
format = "C"
train = "train.{ending}"
valid = "valid.{ending}"
columns = {columns}
"""
ANSWERS = """
[tasks.task]
format = "QA"
reader = "{reader}"
train = "train.{ending}"
valid = "valid.{ending}"
options = {{ max_length = 600, stride = 64, max_question = 120, max_answer_length = 600 }}
"""
PAIRS = '{ text = "premise", text_pair = "hypothesis", label = "label" }'
MARKED = '{ text = "sentence", label = "kind" }'

KINDS = (
    Kind("CoNLL", "{}.conll", LABELLING, conll),
    Kind("JSONL", "{}.jsonl", CLASSES.format(ending="jsonl", columns=PAIRS), jsonl),
    Kind("SQuAD", "{}.json", ANSWERS.format(ending="json", reader="squad"), squad),
    Kind("MRQA", "{}.jsonl", ANSWERS.format(ending="jsonl", reader="mrqa"), mrqa),
    Kind(
        "MRQA gzip",
        "{}.jsonl.gz",
        ANSWERS.format(ending="jsonl.gz", reader="mrqa"),
        lambda split: gzip.compress(mrqa(split), mtime=0),
    ),
    Kind("TSV", "{}.tsv", CLASSES.format(ending="tsv", columns=MARKED), tsv),
)

SUITE = """\
name = "mine"
title = "three tasks"

[defaults]
batch_size = 8
learning_rate = 1e-4

[groups]
all = ["words", "texts", "answers"]
some = ["w*"]

[tasks.words]
format = "SL"
train = "train.conll"
valid = "valid.conll"
columns = { tokens = 0, tags = -1 }
labels = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
options = { label_all_tokens = false, max_length = 256 }
info = { language = "several", since = 2020-01-01 }

[tasks.texts]
format = "C"
role = "target"
train = { path = "train.tsv", part = "first 4/5 by id seed 1" }
valid = { path = "train.tsv", part = "last 1/5 by id seed 1", encoding = "utf-8" }
splits = { other = "valid.tsv" }
header = true
quoting = "none"
only = { note = "-" }
columns = { text = ["sentence", "note"], label = "kind" }
metric = "f1"
weight = 2.5

[tasks.answers]
format = "QA"
train = "train.json"
valid = "valid.json"

[tasks.answers.options]
max_length = 600
stride = 64
max_question = 120
max_answer_length = 600
n_best = 5
no_answer_threshold = 0.0
"""
