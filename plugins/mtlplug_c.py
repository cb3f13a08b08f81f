"""C: classification of one text or a pair of texts; accuracy, F1 and Matthews correlation.

Padmakumar et al. (2022), section 3.1: a classifier on the first token's output.
Shapes: B features, K labels.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import tee
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mtlplug import hookimpl
from mtlplug.errors import MtlplugError, unknown
from mtlplug.formats import IGNORE, Feature, Row, Task, TaskFormat
from mtlplug.heads import SequenceHead, stock_model
from mtlplug.ragged import Splits
from mtlplug.scoring import (
    LABEL_COLUMNS,
    Detail,
    confusions,
    metrics_of_guesses,
    precision_recall_f1,
)

if TYPE_CHECKING:
    import numpy.typing as npt
    from transformers import PreTrainedModel

    from mtlplug.data.tokens import Encode


class Classification(TaskFormat):
    """One label for a text or a pair of texts; labels go by name, whatever their type."""

    code = "C"
    title = "classification"
    headline = "accuracy"
    columns = ("text", "text_pair", "label")
    independent_rows = True

    def prepare(self, task: Task, rows: Iterable[Row]) -> dict[str, Any]:
        """The label names, sorted (numbers by value), unless the suite names them."""
        if task.labels:
            return {}
        names = {name for row in rows if (name := _label(task, row)) is not None}
        numeric = all(re.fullmatch(r"-?[0-9]{1,18}", name) for name in names)
        return {"labels": sorted(sorted(names), key=int if numeric else str)}

    def features(self, task: Task, rows: Iterable[Row], encode: Encode) -> Iterator[Feature]:
        """One feature a row, which reads the first token."""
        index = {name: number for number, name in enumerate(task.labels)}
        usable, given = tee(_usable(task, rows, encode))
        encodings = encode.texts((text, pair) for text, pair, _ in given)
        for (_, _, label), encoded in zip(usable, encodings, strict=True):
            if label not in index:
                encode.count("labels not in training")
            if all(part is None for part in encoded.segments):
                encode.count("texts without tokens")
            yield Feature((encoded,), [0], [index.get(label, IGNORE)], label)

    def head(self, task: Task, hidden_size: int) -> nn.Module:
        """Dense, tanh, projection."""
        return SequenceHead(hidden_size, len(task.labels))

    def loss(self, scores: Tensor, targets: Tensor, splits: Splits) -> Tensor:
        """Cross entropy. *Shape:* scores (B, K), targets (B,) -> (B,)."""
        return cross_entropy(scores, targets, ignore_index=IGNORE, reduction="none")

    def decode(self, task: Task, scores: Tensor, splits: Splits) -> list[Any]:
        """The name of the best label."""
        return [task.labels[number] for number in scores.argmax(-1).tolist()]

    def metrics(
        self, task: Task, predictions: Sequence[Any], references: Sequence[Any]
    ) -> dict[str, float]:
        """Accuracy, F1 and Matthews correlation ("mcc"), in percent.

        With two labels F1 is that of the second (GLUE's positive "1"), with more the macro
        average over labels (SuperGLUE's CB).
        """
        # Here, because its import would be half of a command's start.
        from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

        positive = list(task.labels[1:]) if len(task.labels) == 2 else None
        several = len({*references, *predictions}) > 1  # of one label scikit-learn warns
        mcc = matthews_corrcoef(references, predictions) if several else 0.0
        f1 = f1_score(references, predictions, labels=positive, average="macro", zero_division=0)
        return {
            "accuracy": 100 * float(accuracy_score(references, predictions)),
            "f1": 100 * float(f1),
            "mcc": 100 * float(mcc),
        }

    def unlabelled(self, task: Task, row: Row) -> Row:
        """A row with some label; words become a text."""
        values = {"text": " ".join(row["tokens"])} if "tokens" in row else {}
        return Row({**values, **row, "label": task.labels[0]}, row.where)

    def present(
        self, task: Task, row: Row, features: Sequence[Feature], scores: Tensor, splits: Splits
    ) -> Any:
        """The best label, its probability, and those of all labels."""
        probabilities = dict(zip(task.labels, scores[0].softmax(-1).tolist(), strict=True))
        label = max(probabilities, key=probabilities.__getitem__)
        return {"label": label, "score": probabilities[label], "probabilities": probabilities}

    def baselines(
        self, task: Task, targets: Sequence[npt.NDArray[Any]], references: Sequence[Any]
    ) -> dict[str, dict[str, float]]:
        """Labels drawn as often as they occur in training, and the most frequent one."""
        return metrics_of_guesses(
            lambda guesses: self.metrics(task, [guess for (guess,) in guesses], references),
            task.labels,
            targets,
            [1] * len(references),
        )

    def row_counts(
        self, task: Task, predictions: Sequence[Sequence[Any]], references: Sequence[Sequence[Any]]
    ) -> npt.NDArray[Any]:
        """The place of each row in the confusion matrix, gold by prediction. *Shape:* (rows, K K).

        K counts labels of the split that are unknown in training, too.
        """
        alien = {gold for (gold,) in references}.difference(task.labels)
        place = {name: number for number, name in enumerate([*task.labels, *sorted(alien)])}
        counts = np.zeros((len(references), len(place) ** 2), np.uint8)
        for row, ((ours,), (gold,)) in enumerate(zip(predictions, references, strict=True)):
            counts[row, place[gold] * len(place) + place[ours]] = 1
        return counts

    def metrics_of_counts(self, task: Task, counts_K: npt.NDArray[Any]) -> dict[str, float]:
        """Accuracy, F1 and Matthews correlation of a confusion matrix, as `metrics` has them."""
        size = math.isqrt(len(counts_K))
        matrix_KK = counts_K.reshape(size, size).astype(float)
        gold_K, ours_K, right_K = matrix_KK.sum(1), matrix_KK.sum(0), matrix_KK.diagonal()
        total, right = matrix_KK.sum(), right_K.sum()
        met_K = gold_K + ours_K > 0
        f1_K = 2 * right_K / np.maximum(gold_K + ours_K, 1)
        f1 = f1_K[1] if len(task.labels) == 2 else f1_K[met_K].mean()
        spread = (total**2 - (ours_K**2).sum()) * (total**2 - (gold_K**2).sum())
        mcc = (right * total - gold_K @ ours_K) / math.sqrt(spread) if spread else 0.0
        scores = {"accuracy": right / total, "f1": f1, "mcc": mcc}
        return {name: 100 * float(score) for name, score in scores.items()}

    def detail(
        self, task: Task, predictions: Sequence[Any], references: Sequence[Any]
    ) -> list[Detail]:
        """Precision, recall and F1 of each label, and what is taken for what."""
        pairs = Counter(zip(references, predictions, strict=True))
        gold, ours = Counter(references), Counter(predictions)
        names = [name for name in {**dict.fromkeys(task.labels), **gold} if gold[name] + ours[name]]
        labels = [
            (name, *precision_recall_f1(pairs[name, name], ours[name], gold[name]), gold[name])
            for name in names
        ]
        return [Detail("labels", LABEL_COLUMNS, labels), confusions(pairs)]

    def wanted_and_given(
        self, task: Task, predictions: Sequence[Any], references: Sequence[Any]
    ) -> tuple[str, str]:
        """The label and the one predicted."""
        return references[0], predictions[0]

    def export(self, task: Task, head: nn.Module, encoder: PreTrainedModel) -> PreTrainedModel:
        """`AutoModelForSequenceClassification` with equal logits."""
        from transformers import AutoModelForSequenceClassification

        layers = cast(SequenceHead, head).stock_layers(encoder.config)
        return stock_model(AutoModelForSequenceClassification, encoder, task.labels, layers)


def _usable(
    task: Task, rows: Iterable[Row], encode: Encode
) -> Iterator[tuple[str, str | None, str]]:
    for row in rows:
        label = _label(task, row)
        text, pair = row.get("text"), row.get("text_pair")
        if label is None:
            encode.count("rows without label")
        elif text is None:
            encode.count("rows without text")
        else:
            # Labels that the suite names are all there are; learnt ones may be incomplete.
            if label not in task.labels and "labels" not in task.facts:
                raise MtlplugError(f"{row.where}: {unknown('label', label, task.labels)}")
            for column, value in (("text", text), ("text_pair", pair)):
                if value is not None and not isinstance(value, str):
                    raise MtlplugError(
                        f"{row.where}: column '{column}' holds {value!r}, which is no text; "
                        "name the column that holds the text in the suite"
                    )
            if "text_pair" in row and pair is None:
                encode.count("rows without second text")
            yield text, pair, label


def _label(task: Task, row: Row) -> str | None:
    """The name of a row's label; None where it has none (-1 is how hidden labels are written)."""
    value = row.get("label")
    if value is not None and not isinstance(value, str | int | float):
        raise MtlplugError(
            f"{row.where}: column 'label' holds {value!r}; a label is a text, a number or a bool"
        )
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    name = str(value)
    missing = value is None or value in ("", -1, "-1") or value != value  # NaN differs from itself
    return None if missing and name not in task.labels else name


@hookimpl
def mtlplug_task_formats() -> Iterable[TaskFormat]:
    """Classification."""
    return [Classification()]
