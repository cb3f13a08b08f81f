"""SL: schemes, features, truncation, loss, strict metrics and export."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch
from mtlplug_c import Classification
from mtlplug_qa import QuestionAnswering
from mtlplug_sl import SequenceLabelling
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from mtlplug.data.suites import load_suite
from mtlplug.data.tokens import Encode
from mtlplug.errors import MtlplugError
from mtlplug.formats import IGNORE, Feature, Row, Task
from mtlplug.ragged import Splits

FORMAT = SequenceLabelling()


@pytest.fixture
def encode(tmp_path: Path) -> Encode:
    """A tokenizer that makes a token of every letter, at most 12 tokens with the special ones."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(tmp_path)
    return Encode(AutoTokenizer.from_pretrained(tmp_path), 12)


def row(words: str, tags: str) -> Row:
    """A row from words and tags separated by blanks."""
    return Row({"tokens": words.split(), "tags": tags.split()}, "f, line 7")


def prepared(*train: Row, **values: Any) -> Task:
    """A task that has learnt from these rows."""
    options = {**FORMAT.options, **values.pop("options", {})}
    task = Task("t", "SL", options=options, **values)
    facts = FORMAT.prepare(task, iter(train))
    return replace(task, facts=facts, labels=task.labels or tuple(facts["labels"]))


def made(task: Task, encode: Encode, *given: Row) -> list[Feature]:
    """The features of these rows."""
    return list(FORMAT.features(task, iter(given), encode))


def test_prepare_learns_scheme_and_labels() -> None:
    """The scheme and the IOB2 labels come from the training rows."""
    facts = FORMAT.prepare(
        Task("t", "SL"), [row("a b c", "U-PER O U-LOC"), row("a b", "B-PER L-PER")]
    )
    assert facts == {"scheme": "BILOU", "labels": ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]}


def test_first_sub_tokens_are_read(encode: Encode) -> None:
    """Each word is read at its first sub-token, with its label in IOB2."""
    given = row("abc de f", "I-PER I-PER O")
    (feature,) = made(prepared(given), encode, given)
    assert feature.sequences[0].tokens[1:4] == ["a", "##b", "##c"]
    assert feature.reads == [1, 4, 6]
    assert feature.target == [1, 2, 0]
    assert feature.reference == {"tags": ["B-PER", "I-PER", "O"], "words": [0, 1, 2]}


def test_all_sub_tokens(encode: Encode) -> None:
    """With label_all_tokens later sub-tokens are inside; the first one's prediction counts."""
    given = row("abc de", "B-PER O")
    task = prepared(given, options={"label_all_tokens": True})
    (feature,) = made(task, encode, given)
    assert feature.reads == [1, 2, 3, 4, 5]
    assert feature.target == [1, 2, 2, 0, 0]
    predicted = ["B-PER", "O", "O", "O", "B-PER"]
    assert FORMAT.metrics(task, [predicted], [feature.reference])["f1"] == 100.0


def test_truncation_is_counted(encode: Encode) -> None:
    """Words cut off count as outside; they and the entities that lose a word are counted."""
    given = row("abcde fghij k l m", "O B-PER I-PER B-LOC O")
    task = prepared(given)
    (feature,) = made(task, encode, given)
    assert feature.reads == [1, 6]
    assert encode.counts == {"sentences cut": 1, "words cut": 3, "entities cut": 2}
    scores = FORMAT.metrics(task, [["O", "B-PER"]], [feature.reference])
    assert scores["recall"] == 0.0
    assert scores["accuracy"] == 60.0


def test_cut_word_with_a_token_left_is_read(encode: Encode) -> None:
    """A word of which only the end is cut off is read."""
    given = row("abcdefgh ijklm", "O B-PER")
    (feature,) = made(prepared(given), encode, given)
    assert feature.reads == [1, 9]
    assert encode.counts == {"sentences cut": 1}


def test_words_that_vanish(encode: Encode) -> None:
    """Words without a token are counted and keep their gold, also where they are all there is."""
    rows = [row("a \u200d\ufeff b", "O B-PER I-PER"), row("\u200d", "B-PER"), row("", "")]
    task = prepared(*rows)
    first, second = made(task, encode, *rows)
    assert first.reference == {"tags": ["O", "B-PER", "I-PER"], "words": [0, 2]}
    assert (second.reads, second.target) == ([], [])
    gold = [first.reference, second.reference]
    scores = FORMAT.metrics(task, [["O", "B-PER"], []], gold)
    assert (scores["precision"], scores["recall"]) == (0, 0)  # the entity ends at its second word
    counts = FORMAT.row_counts(task, [[["O", "B-PER"]], [[]]], [[each] for each in gold])
    assert counts.tolist() == [[0, 1, 1, 1, 3], [0, 0, 1, 0, 1]]
    assert encode.counts == {"words without tokens": 2, "rows without tokens": 2}


def test_tags_unseen_in_training(encode: Encode) -> None:
    """A tag that training never had has no target, but stays in the gold."""
    task = prepared(row("a b", "B-PER O"))
    (feature,) = made(task, encode, row("a b", "B-LOC O"))
    assert feature.target == [IGNORE, 0]
    assert feature.reference["tags"] == ["B-LOC", "O"]
    assert encode.counts == {"labels not in training": 1}


def test_violations_are_counted(encode: Encode) -> None:
    """Tags that had to be repaired are counted."""
    good, bad = row("a b", "B-PER O"), row("a b", "O I-PER")
    *_, feature = made(prepared(good, good, bad), encode, bad)
    assert feature.reference["tags"] == ["O", "B-PER"]
    assert encode.counts == {"tags repaired": 1}


def test_labels_of_the_suite_rule(encode: Encode) -> None:
    """Labels that the suite names keep their order; any other tag is an error."""
    given = row("a b", "B-PER O")
    task = prepared(given, labels=("B-PER", "I-PER", "O"))
    assert made(task, encode, given)[0].target == [0, 2]
    with pytest.raises(MtlplugError, match="f, line 7: unknown label 'B-LOC'; known: B-PER"):
        made(task, encode, row("a", "B-LOC"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tokens": ["a"], "tags": ["O", "O"]}, "f, line 7: 1 tokens and 2 tags"),
        ({"tokens": ["a"]}, "1 tokens and None tags"),
        (
            {"tokens": ["a"], "tags": [3]},
            r"f, line 7: column 'tags' holds 3; .* tags names such as",
        ),
        ({"tokens": ["a"], "tags": [""]}, "column 'tags' holds ''"),
        ({"tokens": [None], "tags": ["O"]}, "column 'tokens' holds None"),
        ({"tokens": "ab", "tags": "OO"}, "must be lists"),
    ],
)
def test_wrong_rows(values: dict[str, Any], message: str) -> None:
    """A row of the wrong shape or type is named with its value and place."""
    with pytest.raises(MtlplugError, match=message):
        FORMAT.prepare(Task("t", "SL"), [Row(values, "f, line 7")])


def test_loss_is_the_mean_of_each_sentence() -> None:
    """Each sentence's loss is the mean over its counted words, zero where none is counted."""
    scores = torch.zeros(5, 4, requires_grad=True)
    targets = torch.tensor([0, IGNORE, 2, IGNORE, IGNORE])
    loss = FORMAT.loss(scores, targets, Splits.of([2, 1, 2]))
    assert loss.tolist() == pytest.approx([log(4), log(4), 0.0])
    (grad,) = torch.autograd.grad(loss.sum(), scores)
    assert grad[3:].abs().sum() == 0


def test_decode_names_the_best_label() -> None:
    """Predictions are label names, split into sentences."""
    task = Task("t", "SL", labels=("O", "B-X", "I-X"))
    scores = torch.eye(3)[[0, 1, 2, 0]]
    assert FORMAT.decode(task, scores, Splits.of([1, 3])) == [["O"], ["B-X", "I-X", "O"]]


def test_metrics_are_strict() -> None:
    """Wrong ends and labels that are not valid IOB2 score nothing; counts are over entities."""
    task = Task("t", "SL")
    gold = [{"tags": ["B-X", "I-X", "O", "B-Y"], "words": [0, 1, 2, 3]}]
    right = FORMAT.metrics(task, [["B-X", "I-X", "O", "B-Y"]], gold)
    assert right == {"f1": 100, "precision": 100, "recall": 100, "accuracy": 100}
    half = FORMAT.metrics(task, [["B-X", "O", "O", "B-Y"]], gold)
    assert (half["precision"], half["recall"], half["accuracy"]) == (50, 50, 75)
    invalid = FORMAT.metrics(task, [["I-X", "I-X", "O", "I-Y"]], gold)
    assert invalid["f1"] == 0


@pytest.mark.filterwarnings("error")
def test_metrics_without_entities() -> None:
    """A split without entities scores 0, without a warning."""
    gold = [{"tags": ["O"], "words": [0]}]
    assert FORMAT.metrics(Task("t", "SL"), [["O"]], gold)["f1"] == 0.0


@pytest.mark.slow
def test_real_tasks(real_data: Path, minilm: str) -> None:
    """On every real task gold against gold scores 100, and every word is read or counted."""
    formats = {"C": Classification(), "QA": QuestionAnswering(), "SL": FORMAT}
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    suite = load_suite("collection", formats, real_data)
    for task in suite.tasks.values():
        if task.format != "SL":
            continue
        task = prepared(*islice(task.sources["train"].rows(), 500), sources=task.sources)
        encode = Encode(tokenizer, 64)
        rows = list(islice(task.sources["valid"].rows(), 300))
        features = made(task, encode, *rows)
        gold = [{**f.reference, "words": range(len(f.reference["tags"]))} for f in features]
        scores = FORMAT.metrics(task, [g["tags"] for g in gold], gold)
        assert scores == pytest.approx(dict.fromkeys(scores, 100.0)), task.name
        unread = encode.counts["words cut"] + encode.counts["words without tokens"]
        words = sum(len(row["tokens"]) for row in rows)
        assert sum(len(f.reads) for f in features) + unread == words, task.name
