"""QA: the span of a context that answers a question; SQuAD's F1 and exact match.

Padmakumar et al. (2022), section 3.1: a linear classifier scores every token as start and end.
A long context becomes overlapping windows; the first token stands for "no answer here".
Shapes: R rows read (first token, then the context's), B windows, C context tokens of a window.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import tee
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from mtlplug_qa_detail import (
    AnswerDetail,
    answer_texts,
    f1_of,
    golds_of,
    is_one_of,
    threshold_of,
)
from torch import Tensor, nn

from mtlplug import hookimpl
from mtlplug.errors import MtlplugError
from mtlplug.formats import IGNORE, Feature, Row, Task, TaskFormat
from mtlplug.heads import TokenHead, stock_model
from mtlplug.ragged import Splits, log_softmax_per_feature, split
from mtlplug.scoring import mean_metrics
from mtlplug.spans import Span, best_spans, cuts_word, ranked_texts, with_marks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mtlplug.data.tokens import Encode, Encoded

NEARBY = 20  # characters by which answer_start may miss an answer that occurs more than once
NO_ANSWER = (0, 0)
UNLABELLED = ()  # the answers of a row whose gold is not known
LEAST = {"stride": 0, "max_question": 1, "max_answer_length": 1, "n_best": 1}
DRAWS = 5  # over which the metrics of chance are averaged
Answer = tuple[str, int | None]


class Question(NamedTuple):
    """A row, read. `span`: characters of the answer; None where its place is not known."""

    row: int
    id: str
    question: str
    context: str
    golds: list[str]
    span: Span | None


class QuestionAnswering(AnswerDetail):
    """Extractive question answering, with questions that may have no answer.

    Options:
        max_length: tokens of a window, question and special tokens included.
        stride: tokens by which neighbouring windows overlap.
        max_question: most tokens of a question; longer ones are cut.
        max_answer_length: most tokens of a predicted answer.
        n_best: candidates kept for each window.
        no_answer_threshold: by how much "no answer" must win over the best span; used where
            the training rows have unanswerable questions.
    """

    code = "QA"
    title = "question answering"
    headline = "f1"
    columns = ("id", "question", "context", "answers")
    independent_rows = True
    options: Mapping[str, Any] = {
        "max_length": 384,
        "stride": 128,
        "max_question": 64,
        "max_answer_length": 30,
        "n_best": 20,
        "no_answer_threshold": 0.0,
    }

    def prepare(self, task: Task, rows: Iterable[Row]) -> dict[str, Any]:
        """Whether some questions have no answer."""
        for option, least in LEAST.items():
            if task.options.get(option, least) < least:
                raise MtlplugError(
                    f"task '{task.name}': option {option} is {task.option(option)}; it must be "
                    f"{least} or more"
                )
        return {"unanswerable": any(not _answers(row) for row in rows)}

    def features(self, task: Task, rows: Iterable[Row], encode: Encode) -> Iterator[Feature]:
        """One feature a window, which reads the first token and the context's tokens."""
        questions, given = tee(_questions(rows, encode))
        pairs = ((item.question, item.context) for item in given)
        encodings = encode.windows(pairs, task.option("stride"), task.option("max_question"))
        for item, windows in zip(questions, encodings, strict=True):
            features = [_window(item, encoded) for encoded in windows]
            if not item.golds and item.span and not task.facts["unanswerable"]:
                encode.count("questions without answer, unlike training")
            if 0 not in windows[0].segments:
                encode.count("questions without tokens")
            if len(features[0].reads) == 1:
                encode.count("contexts without tokens")
            if item.golds and item.span and all(f.target == [0, 0] for f in features):
                encode.count("answers outside every window")
            if any(f.target[1] - f.target[0] >= task.option("max_answer_length") for f in features):
                encode.count("answers too long to be predicted")
            yield from features

    def head(self, task: Task, hidden_size: int) -> nn.Module:
        """One linear layer: a score as start and one as end."""
        return TokenHead(hidden_size, 2, dropout=0.0)

    def loss(self, scores: Tensor, targets: Tensor, splits: Splits) -> Tensor:
        """Mean of the cross entropies of start and end over the rows of each window.

        *Shape:* scores (R, 2), targets (2B,): start and end of each, counted within its window
        -> (B,).
        """
        log_probs_R2 = log_softmax_per_feature(scores, splits)
        targets_B2 = targets.view(-1, 2)
        rows_B2 = splits.starts_B[:, None] + targets_B2.clamp(min=0)
        losses_B2 = -log_probs_R2.gather(0, rows_B2)
        return (losses_B2 * (targets_B2 != IGNORE)).mean(1)

    def decode(self, task: Task, scores: Tensor, splits: Splits) -> list[Any]:
        """For each window the raw scores of "no answer" and of its best spans, best first.

        `{"none": score, "spans": [[first row, last row, score], ...]}`
        """
        longest, n_best = task.option("max_answer_length"), task.option("n_best")
        return [
            {"none": float(part[0].sum()), "spans": best_spans(part[1:].numpy(), longest, n_best)}
            for part in split(scores, splits)
        ]

    def metrics(
        self, task: Task, predictions: Sequence[Any], references: Sequence[Any]
    ) -> dict[str, float]:
        """SQuAD F1 and exact match, in percent: the best over the answers of each question.

        Windows of a question are compared by raw scores. Articles are dropped in English only;
        words are what blanks separate, so that Chinese and Thai answers count as one word.
        """
        answers = answer_texts(predictions, references, threshold_of(task))
        golds = {reference["row"]: golds_of(reference) for reference in references}
        f1 = [max(f1_of(answers[row], gold) for gold in golds[row]) for row in golds]
        exact = [is_one_of(answers[row], golds[row]) for row in golds]
        return {"f1": 100 * float(np.mean(f1)), "exact_match": 100 * float(np.mean(exact))}

    def unlabelled(self, task: Task, row: Row) -> Row:
        """A row without answers, of which none is looked for."""
        return Row({**row, "answers": UNLABELLED}, row.where)

    def present(
        self, task: Task, row: Row, features: Sequence[Feature], scores: Tensor, splits: Splits
    ) -> Any:
        """The answer, its characters in the context, and the `n_best` candidates of all windows.

        `score` is the sum of the scores of start and end, by which windows are compared;
        `probability` its softmax over the candidates and "no answer". Where no answer is the
        answer, by `no_answer_threshold`, the text is empty and there are no characters.
        """
        windows = self.decode(task, scores, splits)
        none = min(window["none"] for window in windows)
        found = [
            ((start + offsets[2 * first - 2], start + offsets[2 * last - 1]), score)
            for window, feature in zip(windows, features, strict=True)
            for start, offsets in [(feature.reference["start"], feature.reference["offsets"])]
            for first, last, score in window["spans"]
        ]
        candidates = ranked_texts(found, row["context"])[: task.option("n_best")]
        nothing = {"text": "", "start": None, "end": None, "score": none}
        everything = [nothing, *candidates]
        scored = np.array([each["score"] for each in everything])
        powers = np.exp(scored - scored.max())
        for each, power in zip(everything, powers / powers.sum(), strict=True):
            each["probability"] = float(power)
        answered = candidates and none - candidates[0]["score"] <= threshold_of(task)
        answer = candidates[0] if answered else nothing
        return {**answer, "no_answer": nothing["probability"], "candidates": candidates}

    def baselines(
        self, task: Task, targets: Sequence[npt.NDArray[Any]], references: Sequence[Any]
    ) -> dict[str, dict[str, float]]:
        """Any span, as long as an answer in training; no answer at all, where some have none."""
        targets_B2 = np.concatenate(targets).reshape(-1, 2)
        lengths = (targets_B2[:, 1] - targets_B2[:, 0] + 1)[targets_B2[:, 0] > 0]
        generator = np.random.default_rng(0)
        found = {}
        if len(lengths):
            drawn = [
                [_any_span(reference, lengths, generator) for reference in references]
                for _ in range(DRAWS)
            ]
            scores = [self.metrics(task, guesses, references) for guesses in drawn]
            found["chance"] = mean_metrics(scores)
        if task.facts["unanswerable"]:
            nothing = [{"none": np.inf, "spans": []}] * len(references)
            found["majority"] = self.metrics(task, nothing, references)
        return found

    def export(self, task: Task, head: nn.Module, encoder: PreTrainedModel) -> PreTrainedModel:
        """`AutoModelForQuestionAnswering` with equal logits."""
        from transformers import AutoModelForQuestionAnswering

        layers = cast(TokenHead, head).stock_layers(encoder.config, "qa_outputs")
        return stock_model(AutoModelForQuestionAnswering, encoder, ("start", "end"), layers)


def _any_span(
    reference: Mapping[str, Any], lengths: npt.NDArray[np.int64], generator: np.random.Generator
) -> dict[str, Any]:
    """A prediction for a window: one span, whose place in it and whose score are drawn."""
    tokens = len(reference["offsets"]) // 2
    length = min(int(generator.choice(lengths)), tokens)
    start = int(generator.integers(1, tokens - length + 2))
    spans = [[start, start + length - 1, generator.random()]] if tokens else []
    return {"none": -np.inf, "spans": spans}


def _questions(rows: Iterable[Row], encode: Encode) -> Iterator[Question]:
    for number, row in enumerate(rows, encode.first_row):
        question, context = row.get("question"), row.get("context")
        if not isinstance(question, str) or not isinstance(context, str):
            raise MtlplugError(
                f"{row.where}: columns 'question' and 'context' must hold texts, not "
                f"{question!r} and {str(context)[:80]!r}; name their columns in the suite"
            )
        answers = _answers(row, encode)
        name = str(number if row.get("id") is None else row["id"])
        encode.count_repeated("ids more than once", name)
        span = _span(context, answers, encode) if answers else NO_ANSWER
        if row["answers"] is UNLABELLED:
            span = None
        golds = [text for text, _ in answers]
        yield Question(number, name, question.lstrip(), context, golds, span)


def _answers(row: Row, encode: Encode | None = None) -> list[Answer]:
    """Texts and starts of the answers that have a text, from either layout of SQuAD."""
    column = row.get("answers")
    try:
        if isinstance(column, Mapping):
            texts = column["text"]
            starts = column.get("answer_start") or [None] * len(texts)
            pairs = list(zip(texts, starts, strict=True))
        else:
            pairs = [(answer["text"], answer.get("answer_start")) for answer in column or ()]
        # A text would fall apart into letters, and true is a number.
        plain = all(type(start) in (int, type(None)) for _, start in pairs)
        if column is None or not plain or (isinstance(column, Mapping) and type(texts) is str):
            raise TypeError
        found = [(text, start) for text, start in pairs if text.strip()]
        if encode is not None and len(found) < len(pairs):
            encode.count("answers without text", len(pairs) - len(found))
        return found
    except (AttributeError, KeyError, TypeError, ValueError):
        raise MtlplugError(
            f"{row.where}: column 'answers' holds {str(column)[:80]!r}; it must be "
            '{"text": [...], "answer_start": [...]}, both empty where there is no answer'
        ) from None


def _span(context: str, answers: Iterable[Answer], encode: Encode) -> Span | None:
    """The characters of the first answer that can be found."""
    for raw, given in answers:
        text = raw.strip()
        # Starts count the blanks before the answer, or do not.
        for start in () if given is None else (given + raw.index(text), given):
            if start >= 0 and context.startswith(text, start):
                return start, start + len(text)
        places = [match.start() for match in re.finditer(re.escape(text), context)]
        whole = [place for place in places if not cuts_word(context, place, place + len(text))]
        wanted = -NEARBY - 1 if given is None else given
        place = min(whole or places, key=lambda place: abs(place - wanted), default=None)
        if place is not None and (len(whole) == 1 or abs(place - wanted) <= NEARBY):
            encode.count("answers moved")
            return place, place + len(text)
    encode.count("answers not in context")
    return None


def _window(item: Question, encoded: Encoded) -> Feature:
    positions = [place for place, part in enumerate(encoded.segments) if part == 1]
    offsets_C2 = with_marks(item.context, np.array(encoded.offsets)[positions])
    low, high = (offsets_C2[0, 0], offsets_C2[-1, 1]) if positions else (0, 0)
    reference: dict[str, Any] = {"row": item.row, "id": item.id, "answers": item.golds}
    reference["start"], reference["context"] = int(low), item.context[low:high]
    reference["offsets"] = (offsets_C2 - low).reshape(-1).tolist()
    return Feature((encoded,), [0, *positions], _target(item, offsets_C2), reference)


def _target(item: Question, offsets_C2: npt.NDArray[np.int64]) -> list[int]:
    """First and last row of the answer; row 0 where it is not wholly in the window."""
    if item.span is None:
        return [IGNORE, IGNORE]
    start, end = item.span
    if start == end or not len(offsets_C2) or start < offsets_C2[0, 0] or end > offsets_C2[-1, 1]:
        return [0, 0]
    first = int(np.searchsorted(offsets_C2[:, 1], start, side="right"))
    last = int(np.searchsorted(offsets_C2[:, 0], end, side="left")) - 1
    return [first + 1, last + 1] if first <= last else [0, 0]


@hookimpl
def mtlplug_task_formats() -> Iterable[TaskFormat]:
    """Question answering."""
    return [QuestionAnswering()]
