"""Question answering in detail: answers from the scores of windows, and how near they come."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mtlplug.formats import Task, TaskFormat
from mtlplug.scoring import Detail

if TYPE_CHECKING:
    import numpy.typing as npt


class AnswerDetail(TaskFormat):
    """What is right and wrong, for formats that predict as `QuestionAnswering` does."""

    def row_counts(
        self, task: Task, predictions: Sequence[Sequence[Any]], references: Sequence[Sequence[Any]]
    ) -> npt.NDArray[Any]:
        """F1, exact match and 1 of each question. *Shape:* (rows, 3)."""
        counts = []
        for ours, windows in zip(predictions, references, strict=True):
            answer = self._answer(task, ours, windows)
            golds = golds_of(windows[0])
            exact = is_one_of(answer, golds)
            counts.append([max(f1_of(answer, gold) for gold in golds), exact, 1])
        return np.array(counts, float)

    def metrics_of_counts(self, task: Task, counts_K: npt.NDArray[Any]) -> dict[str, float]:
        """F1 and exact match."""
        f1, exact, questions = counts_K.tolist()
        return {"f1": 100 * f1 / questions, "exact_match": 100 * exact / questions}

    def detail(
        self, task: Task, predictions: Sequence[Any], references: Sequence[Any]
    ) -> list[Detail]:
        """What becomes of questions with an answer, and of those without."""
        answers = answer_texts(predictions, references, threshold_of(task))
        golds = {reference["row"]: reference["answers"] for reference in references}
        found = Counter(_outcome(answers[row], golds[row]) for row in golds)
        rows = [(*each, found[each], 100 * found[each] / len(golds)) for each in sorted(found)]
        header = ("in gold", "predicted", "questions", "%")
        return [Detail("outcomes", header, rows)]

    def wanted_and_given(
        self, task: Task, predictions: Sequence[Any], references: Sequence[Any]
    ) -> tuple[str, str]:
        """The answers, and the one predicted; only the right answer where it is one."""
        answer, golds = self._answer(task, predictions, references), golds_of(references[0])
        if is_one_of(answer, golds):
            return answer, answer
        return " | ".join(dict.fromkeys(golds)) or "no answer", answer or "no answer"

    def _answer(self, task: Task, predictions: Sequence[Any], references: Sequence[Any]) -> str:
        """The answer to one question, from all its windows."""
        row = references[0]["row"]
        return answer_texts(predictions, references, threshold_of(task))[row]


def golds_of(reference: Any) -> Sequence[str]:
    """The answers to a question that hold a word, as in SQuAD 2's script; none is an empty one."""
    return [answer for answer in reference["answers"] if words_of(answer)] or [""]


def threshold_of(task: Task) -> float:
    """By how much "no answer" must win."""
    return float(task.option("no_answer_threshold")) if task.facts["unanswerable"] else np.inf


def _outcome(answer: str, golds: Sequence[str]) -> tuple[str, str]:
    """What a question has, and what was predicted."""
    if not golds:
        return "no answer", "an answer" if answer else "no answer"
    if not answer:
        return "an answer", "no answer"
    if is_one_of(answer, golds):
        return "an answer", "the same"
    overlap = any(f1_of(answer, gold) for gold in golds)
    return "an answer", "words of it" if overlap else "another one"


def answer_texts(
    predictions: Sequence[Any], references: Sequence[Any], threshold: float
) -> dict[int, str]:
    """The answer to each question, by row: the best span over all windows, or "".

    As in SQuAD v2 "no answer" has the least of its scores over the windows.
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
    answered = {row for row, (score, _) in best.items() if none[row] - score <= threshold}
    return {row: text if row in answered else "" for row, (_, text) in best.items()}


def words_of(text: str) -> list[str]:
    """SQuAD's normalisation: lower case, no punctuation, no articles."""
    plain = text.lower().translate(str.maketrans("", "", string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def is_one_of(answer: str, golds: Sequence[str]) -> bool:
    """Whether an answer is exactly one of the gold ones, after SQuAD's normalisation."""
    return any(words_of(answer) == words_of(gold) for gold in golds)


def f1_of(answer: str, gold: str) -> float:
    """SQuAD's F1 of the words of two answers."""
    ours, theirs = words_of(answer), words_of(gold)
    if not ours or not theirs:
        return float(ours == theirs)
    common = (Counter(ours) & Counter(theirs)).total()
    return 2 * common / (len(ours) + len(theirs))
