"""QA: reading answers, windows, spans, merging, SQuAD scores and export."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mtlplug_c import Classification
from mtlplug_qa import QuestionAnswering
from mtlplug_sl import SequenceLabelling
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.nn.functional import cross_entropy
from torchmetrics.text import SQuAD
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from mtlplug.data.suites import load_suite
from mtlplug.data.tokens import Encode
from mtlplug.errors import MtlplugError
from mtlplug.formats import IGNORE, Feature, Row, Task
from mtlplug.ragged import Splits

FORMAT = QuestionAnswering()
CONTEXT = "the cat sat on the mat and the dog lay by the old door of the house"


@pytest.fixture
def encode() -> Encode:
    """A tokenizer of whole words without case and accents, at most 14 tokens."""
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return Encode(PreTrainedTokenizerFast(tokenizer_object=backend), 14)


def row(pairs: list[tuple[str, Any]], context: str = CONTEXT, **values: Any) -> Row:
    """A row with these answers (text, start), and other columns as given."""
    texts, starts = [text for text, _ in pairs], [start for _, start in pairs]
    answers = {"text": texts, "answer_start": starts}
    columns = {"id": "q", "question": " who ?", "context": context, "answers": answers}
    return Row({**columns, **values}, "f, line 3")


def prepared(*train: Row, **options: Any) -> Task:
    """A task with small windows that has learnt from these rows."""
    task = Task("t", "QA", options={**FORMAT.options, "stride": 3, "max_question": 4, **options})
    return replace(task, facts=FORMAT.prepare(task, iter(train)))


def made(encode: Encode, *given: Row) -> list[Feature]:
    """The features of these rows."""
    return list(FORMAT.features(prepared(*given), iter(given), encode))


def oracle(task: Task, features: list[Feature]) -> dict[str, float]:
    """Scores of a model that gives the target rows, and no others, a high score."""
    scores = []
    for feature in features:
        part = np.zeros((len(feature.reads), 2), dtype=np.float32)
        for column, at in enumerate(feature.target):
            part[at, column] += 1.0 + (at > 0)
        scores.append(part)
    splits = Splits.of(map(len, scores))
    predicted = FORMAT.decode(task, torch.from_numpy(np.concatenate(scores)), splits)
    return FORMAT.metrics(task, predicted, [feature.reference for feature in features])


def texts(features: list[Feature]) -> list[str]:
    """The text between the target rows of each feature, "" for no answer."""
    found = []
    for feature in features:
        start, end = feature.target
        offsets = feature.reference["offsets"]
        found.append(
            feature.reference["context"][offsets[2 * start - 2] : offsets[2 * end - 1]]
            if start > 0
            else ""
        )
    return found


def test_windows_and_targets(encode: Encode) -> None:
    """Windows read the first token and the context; the answer is a target where it is whole."""
    features = made(encode, row([("old door", CONTEXT.index("old door"))]))
    assert [len(feature.reads) for feature in features] == [10, 10, 6]
    assert all(feature.reads[:2] == [0, 4] for feature in features)
    assert texts(features) == ["", "old door", "old door"]
    assert [feature.target for feature in features] == [[0, 0], [7, 8], [1, 2]]
    assert encode.counts == {}


def test_references_suffice_for_scoring(encode: Encode) -> None:
    """A window's reference holds its slice of the context and the offsets in it."""
    *_, last = made(encode, row([("dog", CONTEXT.index("dog"))], id=5))
    assert last.reference["context"] == "old door of the house"
    assert last.reference["offsets"] == [0, 3, 4, 8, 9, 11, 12, 15, 16, 21]
    assert (last.reference["row"], last.reference["id"]) == (0, "5")
    assert last.reference["answers"] == ["dog"]


@pytest.mark.parametrize(
    ("answers", "text", "counts"),
    [
        ([("cat", 4)], "cat", {}),
        ([(" cat", 3)], "cat", {}),
        ([(" cat", 4)], "cat", {}),
        ([("cat", 30)], "cat", {"answers moved": 1}),
        ([("the", 17)], "the", {"answers moved": 1}),
        ([("cat", None)], "cat", {"answers moved": 1}),
        ([("sat", 3)], "sat", {"answers moved": 1}),
        ([("he", 2)], "the", {"answers moved": 1}),
        ([("he", 99)], None, {"answers not in context": 1}),
        ([("at", None)], None, {"answers not in context": 1}),
        ([("cat", -13)], "cat", {"answers moved": 1}),
        ([("cow", 4), ("mat", 19)], "mat", {}),
        ([("cow", 4)], None, {"answers not in context": 1}),
        ([("the", None)], None, {"answers not in context": 1}),
    ],
)
def test_answers_are_found(
    answers: list[tuple[str, int]], text: str | None, counts: dict[str, int], encode: Encode
) -> None:
    """A wrong start is repaired where the place is clear; else the row has no target."""
    first, *_ = made(encode, row(answers, context=CONTEXT[:26]))
    if text is None:
        assert first.target == [IGNORE, IGNORE]
    else:
        assert texts([first]) == [text]
    assert encode.counts == counts
    assert first.reference["answers"] == [answer for answer, _ in answers]


def test_both_layouts_of_answers(encode: Encode) -> None:
    """Lists of {"text", "answer_start"} and {"text": [], "answer_start": []} mean the same."""
    listed = row([], answers=[{"text": "cat", "answer_start": 4}])
    assert made(encode, listed)[0].target == made(encode, row([("cat", 4)]))[0].target == [2, 2]


def test_unanswerable(encode: Encode) -> None:
    """Questions without answers aim at the first token; prepare notes that there are some."""
    empty = [row([]), row([], answers=[]), row([("  ", 3)])]
    for feature in made(encode, *empty):
        assert feature.target == [0, 0]
        assert feature.reference["answers"] == []
    assert FORMAT.prepare(Task("t", "QA"), empty) == {"unanswerable": True}
    assert FORMAT.prepare(Task("t", "QA"), [row([("cat", 4)])]) == {"unanswerable": False}


def test_answer_outside_every_window(encode: Encode) -> None:
    """An answer longer than every window is counted."""
    made(encode, row([(CONTEXT, 0)]))
    assert encode.counts == {"answers outside every window": 1}


def test_empty_context_and_long_question(encode: Encode) -> None:
    """An empty context reads the first token alone; a long question is cut and counted."""
    empty, *windows = made(encode, row([], context=""), row([("cat", 4)], question="w " * 9))
    assert (empty.reads, empty.target, empty.reference["context"]) == ([0], [0, 0], "")
    repaired = {"questions cut": 1, "ids more than once": 1, "contexts without tokens": 1}
    assert encode.counts == repaired
    assert all(len(feature.sequences[0]) <= 14 for feature in windows)
    (prediction,) = FORMAT.decode(prepared(), torch.tensor([[1.0, 2.0]]), Splits.of([1]))
    assert prediction == {"none": 3.0, "spans": []}
    assert FORMAT.metrics(prepared(), [prediction], [empty.reference])["f1"] == 100.0


def test_dropped_marks_belong_to_their_word(encode: Encode) -> None:
    """Combining marks that the tokenizer drops stay part of the answer."""
    context = "สี่ cafe\u0301 no"
    features = made(encode, row([("cafe\u0301", 4)], context), row([("สี่", 0)], context))
    assert texts(features) == ["cafe\u0301", "สี่"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"question": None},
            "f, line 3: columns 'question' and 'context' must hold texts, not None",
        ),
        ({"context": 7}, "not ' who [?]' and '7'"),
        ({"answers": None}, "f, line 3: column 'answers' holds 'None'"),
        ({"answers": "cat"}, "column 'answers' holds 'cat'"),
        ({"answers": {"text": ["a", "b"], "answer_start": [1]}}, "column 'answers' holds"),
        ({"answers": {"text": ["a"], "answer_start": ["1"]}}, "column 'answers' holds"),
        ({"answers": {"text": [3], "answer_start": [1]}}, "column 'answers' holds"),
        ({"answers": [{"answer_start": 1}]}, "column 'answers' holds"),
    ],
)
def test_wrong_rows(values: dict[str, Any], message: str, encode: Encode) -> None:
    """A column of the wrong type is named with its value and place."""
    with pytest.raises(MtlplugError, match=message):
        list(FORMAT.features(prepared(), [row([("cat", 4)], **values)], encode))


def test_loss_equals_cross_entropy() -> None:
    """The loss is the mean of the cross entropies of start and end over a window's rows."""
    scores = torch.randn(9, 2, requires_grad=True)
    targets = FORMAT.collate([np.array([1, 3]), np.array([IGNORE, IGNORE]), np.array([0, 0])])
    loss = FORMAT.loss(scores, targets, Splits.of([4, 3, 2]))
    first, last = scores[:4], scores[7:]
    wanted = [
        (cross_entropy(part[:, 0], torch.tensor(s)) + cross_entropy(part[:, 1], torch.tensor(e)))
        / 2
        for part, s, e in ((first, 1, 3), (last, 0, 0))
    ]
    assert loss.tolist() == pytest.approx([wanted[0].item(), 0.0, wanted[1].item()])
    (grad,) = torch.autograd.grad(loss.sum(), scores)
    assert grad[4:7].abs().sum() == 0


@given(
    tokens=st.integers(0, 12),
    longest=st.integers(1, 15),
    n_best=st.integers(1, 30),
    seed=st.integers(0, 999),
)
@settings(max_examples=60)
def test_best_spans_are_the_best(tokens: int, longest: int, n_best: int, seed: int) -> None:
    """The n-best list holds the highest of all valid spans, best first."""
    scores = np.random.default_rng(seed).normal(size=(tokens + 1, 2)).astype(np.float32)
    task = Task("t", "QA", options={"max_answer_length": longest, "n_best": n_best})
    (found,) = FORMAT.decode(task, torch.from_numpy(scores), Splits.of([tokens + 1]))
    spans = [
        [start, end, float(scores[start, 0] + scores[end, 1])]
        for start in range(1, tokens + 1)
        for end in range(start, min(start + longest, tokens + 1))
    ]
    wanted = sorted(spans, key=lambda span: -span[2])[:n_best]
    assert found == {"none": pytest.approx(float(scores[0].sum())), "spans": wanted}


def window(number: int, words: str, *answers: str) -> dict[str, Any]:
    """The reference of a window of words of one letter."""
    offsets = [edge for start in range(0, len(words), 2) for edge in (start, start + 1)]
    return {
        "row": number,
        "id": "q",
        "answers": list(answers),
        "context": words,
        "offsets": offsets,
    }


def test_windows_merge_by_raw_score() -> None:
    """The best raw score over a question's windows wins; equal ids do not mix questions."""
    references = [window(0, "x y", "z"), window(0, "z w", "z"), window(1, "z u", "u")]
    predictions: list[dict[str, Any]] = [
        {"none": 9.0, "spans": [[1, 1, 3.0], [2, 2, 1.0]]},
        {"none": 9.0, "spans": [[1, 1, 5.0]]},
        {"none": 9.0, "spans": [[2, 2, 1.0]]},
    ]
    scores = FORMAT.metrics(prepared(row([("cat", 4)])), predictions, references)
    assert scores == {"f1": 100.0, "exact_match": 100.0}
    predictions[0]["spans"][0][2] = 6.0
    assert FORMAT.metrics(prepared(), predictions, references)["f1"] == 50.0


@pytest.mark.parametrize(("none", "threshold", "score"), [(6, 0, 100), (4, 0, 0), (6, 2, 0)])
def test_no_answer(none: float, threshold: float, score: float) -> None:
    """ "No answer" wins by its least score over windows, if by more than the threshold."""
    references = [window(0, "x y"), window(0, "z w")]
    predictions = [
        {"none": 99.0, "spans": [[1, 1, 5.0]]},
        {"none": float(none), "spans": [[1, 1, 1.0]]},
    ]
    task = prepared(row([]), no_answer_threshold=float(threshold))
    assert FORMAT.metrics(task, predictions, references)["exact_match"] == score


def test_no_answer_only_where_training_has_it() -> None:
    """A task without unanswerable questions always answers."""
    task = prepared(row([("cat", 4)]))
    predictions = [{"none": 99.0, "spans": [[1, 1, 5.0]]}]
    assert FORMAT.metrics(task, predictions, [window(0, "x y", "x")])["f1"] == 100.0


def test_baselines() -> None:
    """Chance draws one span a question, as long as training's; silence scores on the unanswered."""
    references = [window(0, "x y", "y"), window(0, "z w", "y"), window(1, "z u")]
    targets = [np.array([2, 2]), np.array([0, 0])]
    task = prepared(row([("cat", 4)]))
    found = FORMAT.baselines(task, targets, references)
    assert set(found) == {"chance"}
    assert 0 <= found["chance"]["f1"] <= 50
    many = [window(number, "x y", "y") for number in range(400)]
    chance = FORMAT.baselines(task, targets, many)["chance"]
    assert chance["exact_match"] == pytest.approx(50, abs=5)
    assert chance["f1"] < 60
    longer = FORMAT.baselines(task, [np.array([1, 2])], many)["chance"]
    assert longer == {"f1": pytest.approx(100 * 2 / 3), "exact_match": 0.0}
    with_none = FORMAT.baselines(prepared(row([])), targets, references)
    assert with_none["majority"] == {"f1": 50.0, "exact_match": 50.0}
    assert FORMAT.baselines(task, [np.array([IGNORE, IGNORE, 0, 0])], references) == {}


WORDS = st.lists(
    st.sampled_from(["The", "a", "cat", "Cat,", "dog", "an", "(dog)", "U.S.", "42", "—"]),
    min_size=1,
    max_size=6,
)


@given(pairs=st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=3)), min_size=1))
@settings(max_examples=60)
def test_scores_equal_torchmetrics(pairs: list[tuple[list[str], list[list[str]]]]) -> None:
    """F1 and exact match equal torchmetrics' SQuAD on texts with articles and punctuation."""
    metric = SQuAD()
    predictions, references = [], []
    for number, (predicted, golds) in enumerate(pairs):
        # The official script gives F1 0 to texts of articles alone: keep one word in each.
        text, answers = " ".join(["x", *predicted]), [" ".join(["x", *gold]) for gold in golds]
        reference = {"row": number, "id": "q", "answers": answers, "context": text}
        references.append({**reference, "offsets": [0, len(text)]})
        predictions.append({"none": 0.0, "spans": [[1, 1, 1.0]]})
        metric.update(
            {"prediction_text": text, "id": str(number)},
            {
                "answers": {"text": answers, "answer_start": [0] * len(answers)},
                "id": str(number),
            },
        )
    ours = FORMAT.metrics(prepared(row([("cat", 4)])), predictions, references)
    theirs = {name: float(value) for name, value in metric.compute().items()}
    assert ours == pytest.approx(theirs, abs=1e-3)


def test_oracle_is_perfect(encode: Encode) -> None:
    """A model that scores the targets highest gets 100, with and without answers."""
    given = [row([("old door", 46)]), row([("cat", 4), ("the cat", 0)]), row([])]
    task = prepared(*given)
    features = list(FORMAT.features(task, given, encode))
    assert oracle(task, features) == {"f1": 100.0, "exact_match": 100.0}
    # Negative control: answers one word further on.
    wrong = [replace(f, target=[min(int(at) + 1, 5) for at in f.target]) for f in features]
    assert oracle(task, wrong)["exact_match"] < 50.0


@pytest.mark.slow
def test_real_tasks(real_data: Path, minilm: str) -> None:
    """On every real task the text of the targets is an answer, but for gold that cuts tokens.

    Spoken SQuAD's answers begin and end inside words for 3 % of the questions, XQuAD's Thai
    ones inside this tokenizer's tokens for 8 %.
    """
    formats = {"C": Classification(), "QA": FORMAT, "SL": SequenceLabelling()}
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    suite = load_suite("collection", formats, real_data)
    sources = {
        (name, split): source
        for name, task in suite.tasks.items()
        for split, source in task.sources.items()
        if task.format == "QA" and split != "train"
    }
    assert len(sources) >= 14
    for place, source in sources.items():
        rows = list(islice(source.rows(), 40))
        task = prepared(*rows, stride=128, max_question=64, max_answer_length=384)
        encode = Encode(tokenizer, 384)
        features = list(FORMAT.features(task, rows, encode))
        assert all(f.target[1] < len(f.reads) <= len(f.sequences[0]) for f in features)
        lost = encode.counts["answers outside every window"]
        assert oracle(task, features)["f1"] >= 90.0 - 100 * lost / len(rows), place
