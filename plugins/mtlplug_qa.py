"""QA: the span of a context that answers a question; SQuAD's F1 and exact match.

Padmakumar et al. (2022), section 3.1: a linear classifier gives every token a score as start
and as end. A long context becomes overlapping windows; the first token stands for "no answer
here" (Devlin et al. 2019, section 4.3).
Shapes: R rows read (first token, then the context's), B windows, C context tokens of a window.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import tee
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mtlplug import hookimpl
from mtlplug.errors import MtlplugError
from mtlplug.formats import IGNORE, Feature, Row, Task, TaskFormat
from mtlplug.heads import TokenHead
from mtlplug.ragged import Splits, log_softmax_per_feature, split

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mtlplug.data.tokens import Encode, Encoded

NEARBY = 20
"""Characters by which a wrong answer_start may miss an answer that occurs more than once."""

NO_ANSWER = (0, 0)
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Question(NamedTuple):
    """A row, read. `span`: characters of the answer; None where its place is not known."""

    row: int
    id: str
    question: str
    context: str
    golds: list[str]
    span: tuple[int, int] | None


class QuestionAnswering(TaskFormat):
    """Extractive question answering, with questions that may have no answer.

    Options:
        max_length: tokens of a window, question and special tokens included.
        stride: tokens by which neighbouring windows overlap.
        max_question: most tokens of a question; longer ones are cut.
        max_answer_length: most tokens of a predicted answer.
        n_best: candidates kept for each window.
        no_answer_threshold: by how much the score of "no answer" must win over the best span's;
            only for tasks whose training rows have unanswerable questions.
    """

    code = "QA"
    title = "question answering"
    headline = "f1"
    columns = ("id", "question", "context", "answers")
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
        return {"unanswerable": any(not _answers(row) for row in rows)}

    def features(self, task: Task, rows: Iterable[Row], encode: Encode) -> Iterator[Feature]:
        """One feature a window, which reads the first token and the context's tokens."""
        questions, given = tee(_questions(rows, encode))
        encodings = encode.windows(
            ((item.question, item.context) for item in given),
            task.option("stride"),
            task.option("max_question"),
        )
        for item, windows in zip(questions, encodings, strict=True):
            features = [_window(item, encoded) for encoded in windows]
            if item.golds and item.span and all(f.target == [0, 0] for f in features):
                encode.count("answers outside every window")
            yield from features

    def head(self, task: Task, hidden_size: int) -> nn.Module:
        """One linear layer: a score as start and one as end."""
        return TokenHead(hidden_size, 2, dropout=0.0)

    def collate(self, targets: Sequence[npt.NDArray[Any]]) -> Tensor:
        """Rows of start and end. *Shape:* (B, 2)."""
        return torch.from_numpy(np.stack(targets))

    def loss(self, scores: Tensor, targets: Tensor, splits: Splits) -> Tensor:
        """Mean of the cross entropies of start and end over the rows of each window.

        *Shape:* scores (R, 2), targets (B, 2) counted within each window -> (B,).
        """
        log_probs_R2 = log_softmax_per_feature(scores, splits)
        rows_B2 = splits.starts_B[:, None] + targets.clamp(min=0)
        losses_B2 = -log_probs_R2.gather(0, rows_B2)
        return (losses_B2 * (targets != IGNORE)).mean(1)

    def decode(self, task: Task, scores: Tensor, splits: Splits) -> list[Any]:
        """For each window the raw scores of "no answer" and of its best spans.

        `{"none": score, "spans": [[start, end, score], ...]}`, best first; start and end are
        rows read, the end inclusive.
        """
        longest, n_best = task.option("max_answer_length"), task.option("n_best")
        return [
            {
                "none": float(scores_R2[0].sum()),
                "spans": _best_spans(scores_R2[1:].numpy(), longest, n_best),
            }
            for scores_R2 in split(scores, splits)
        ]

    def metrics(
        self, task: Task, predictions: Sequence[Any], references: Sequence[Any]
    ) -> dict[str, float]:
        """SQuAD F1 and exact match, in percent: the best over the answers of each question.

        Windows of a question are compared by raw scores. Articles are dropped in English only;
        words are what blanks separate, so that Chinese and Thai answers count as one word.
        """
        threshold = task.option("no_answer_threshold") if task.facts["unanswerable"] else np.inf
        answers = answer_texts(predictions, references, threshold)
        golds = {reference["row"]: reference["answers"] or [""] for reference in references}
        f1 = [max(_f1(answers[row], gold) for gold in golds[row]) for row in golds]
        exact = [any(_words(answers[row]) == _words(gold) for gold in golds[row]) for row in golds]
        return {"f1": 100 * float(np.mean(f1)), "exact_match": 100 * float(np.mean(exact))}

    def export(self, task: Task, head: nn.Module, encoder: PreTrainedModel) -> PreTrainedModel:
        """`AutoModelForQuestionAnswering` with equal logits: BERT, RoBERTa, XLM-R."""
        from transformers import AutoModelForQuestionAnswering

        config = type(encoder.config).from_dict(encoder.config.to_dict())
        config.num_labels = 2
        try:
            model = AutoModelForQuestionAnswering.from_config(config)
            state = {
                f"{model.base_model_prefix}.{name}": value
                for name, value in encoder.state_dict().items()
                if not name.startswith("pooler.")
            }
            layer = head.get_submodule("projection")
            state |= {f"qa_outputs.{name}": value for name, value in layer.state_dict().items()}
            model.load_state_dict(state)
        except (ValueError, RuntimeError) as error:
            raise MtlplugError(
                f"encoders of the family '{config.model_type}' have no stock span classifier "
                "of one linear layer; BERT, RoBERTa and XLM-R do"
            ) from error
        return model.eval()


def answer_texts(
    predictions: Sequence[Any], references: Sequence[Any], threshold: float
) -> dict[int, str]:
    """The answer to each question, by row; "" for none.

    The best span over all windows, unless "no answer" wins over it by more than the threshold
    in every window that could hold one (the least score over windows, as in SQuAD v2).
    """
    none: dict[int, float] = {}
    best: dict[int, tuple[float, str]] = {}
    for prediction, reference in zip(predictions, references, strict=True):
        row = reference["row"]
        none[row] = min(none.get(row, np.inf), prediction["none"])
        best.setdefault(row, (-np.inf, ""))
        start, end, score = next(iter(prediction["spans"]), (0, 0, -np.inf))
        if score > best[row][0]:
            low, high = reference["offsets"][2 * start - 2], reference["offsets"][2 * end - 1]
            best[row] = score, reference["context"][low:high].strip()
    return {
        row: "" if none[row] - score > threshold else text for row, (score, text) in best.items()
    }


def _questions(rows: Iterable[Row], encode: Encode) -> Iterator[Question]:
    ids: set[str] = set()
    for number, row in enumerate(rows):
        question, context = row.get("question"), row.get("context")
        if not isinstance(question, str) or not isinstance(context, str):
            raise MtlplugError(
                f"{row.where}: columns 'question' and 'context' hold {question!r} and "
                f"{str(context)[:80]!r}; both must be texts: name their columns in the suite"
            )
        answers = _answers(row)
        name = str(number if row.get("id") is None else row["id"])
        if name in ids:
            encode.count("ids more than once")
        ids.add(name)
        golds = [text for text, _ in answers]
        span = _span(context, answers, encode) if answers else NO_ANSWER
        yield Question(number, name, question.lstrip(), context, golds, span)


def _answers(row: Row) -> list[tuple[str, int | None]]:
    """Texts and starts of the answers that have a text, from either layout of SQuAD."""
    column = row.get("answers")
    try:
        if isinstance(column, Mapping):
            texts = column["text"]
            starts = column.get("answer_start") or [None] * len(texts)
            pairs = list(zip(texts, starts, strict=True))
        else:
            pairs = [(answer["text"], answer.get("answer_start")) for answer in column or ()]
        if column is None or not all(isinstance(start, int | None) for _, start in pairs):
            raise TypeError
        return [(text, start) for text, start in pairs if text.strip()]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise MtlplugError(
            f"{row.where}: column 'answers' holds {str(column)[:80]!r}; it must be "
            '{"text": [...], "answer_start": [...]}, both empty where there is no answer'
        ) from None


def _span(
    context: str, answers: Iterable[tuple[str, int | None]], encode: Encode
) -> tuple[int, int] | None:
    """The characters of the first answer that can be found."""
    for raw, given in answers:
        text = raw.strip()
        # Starts count the blanks before the answer, or do not.
        for start in () if given is None else (given + raw.index(text), given):
            if start >= 0 and context.startswith(text, start):
                return start, start + len(text)
        places = [match.start() for match in re.finditer(re.escape(text), context)]
        wanted = -NEARBY - 1 if given is None else given
        place = min(places, key=lambda place: abs(place - wanted), default=None)
        if place is not None and (len(places) == 1 or abs(place - wanted) <= NEARBY):
            encode.count("answers moved")
            return place, place + len(text)
    encode.count("answers not in context")
    return None


def _window(item: Question, encoded: Encoded) -> Feature:
    positions = [place for place, part in enumerate(encoded.segments) if part == 1]
    offsets = encoded.offsets
    offsets_C2 = _with_marks(item.context, np.array([offsets[place] for place in positions]))
    low, high = (offsets_C2[0, 0], offsets_C2[-1, 1]) if positions else (0, 0)
    reference = {
        "row": item.row,
        "id": item.id,
        "answers": item.golds,
        "context": item.context[low:high],
        "offsets": (offsets_C2 - low).reshape(-1).tolist(),
    }
    return Feature((encoded,), [0, *positions], _target(item, offsets_C2), reference)


def _with_marks(context: str, offsets_C2: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Tokens with the combining marks after them that uncased tokenizers drop (Thai, Arabic)."""
    offsets_C2 = offsets_C2.astype(np.int64).reshape(-1, 2)
    following_C = np.append(offsets_C2[1:, 0], len(context))
    for token in np.flatnonzero(offsets_C2[:, 1] < following_C):
        end = offsets_C2[token, 1]
        while end < following_C[token] and unicodedata.category(context[end])[0] == "M":
            end += 1
        offsets_C2[token, 1] = end
    return offsets_C2


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


def _best_spans(scores_C2: npt.NDArray[Any], longest: int, n_best: int) -> list[list[float]]:
    """The best of all spans of up to `longest` tokens, rows counted from 1."""
    if not len(scores_C2):
        return []
    ends = np.pad(scores_C2[:, 1], (0, longest - 1), constant_values=-np.inf)
    # Column k of row i: the span from token i to token i + k.
    spans = scores_C2[:, :1] + np.lib.stride_tricks.sliding_window_view(ends, longest)
    flat = spans.ravel()
    most = min(n_best, len(flat))
    best = np.argpartition(flat, -most)[-most:]
    best = best[np.isfinite(flat[best])]
    best = best[np.lexsort((best, -flat[best]))]
    start, length = np.divmod(best, longest)
    columns = (1 + start).tolist(), (1 + start + length).tolist(), flat[best].tolist()
    return [list(span) for span in zip(*columns, strict=True)]


def _words(text: str) -> list[str]:
    """SQuAD's normalisation: lower case, no punctuation, no articles."""
    plain = text.lower().translate(NO_PUNCTUATION)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def _f1(answer: str, gold: str) -> float:
    ours, theirs = _words(answer), _words(gold)
    if not ours or not theirs:
        return float(ours == theirs)
    common = (Counter(ours) & Counter(theirs)).total()
    return 2 * common / (len(ours) + len(theirs))


@hookimpl
def mtlplug_task_formats() -> Iterable[TaskFormat]:
    """Question answering."""
    return [QuestionAnswering()]
