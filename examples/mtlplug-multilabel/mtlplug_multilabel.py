"""ML: any number of labels for a text or a pair of texts.

One yes-or-no question for each label: binary cross entropy, as in "binary relevance" (Tsoumakas
and Katakis, 2007). A label is given where its logit is above 0. Shapes: B features, K labels.
"""

from itertools import tee

import numpy as np
from torch.nn.functional import binary_cross_entropy_with_logits

import mtlplug
from mtlplug.errors import MtlplugError
from mtlplug.formats import Feature, TaskFormat
from mtlplug.heads import SequenceHead


class MultiLabel(TaskFormat):
    """Labels as a list of names, or as one text with `separator` between them."""

    code, title, headline = "ML", "multi-label classification", "micro_f1"
    columns = ("text", "text_pair", "labels")
    options = {"separator": ","}
    chooses = (2,)  # yes or no, for each label

    def prepare(self, task, rows):
        """The names of the labels, sorted, unless the suite has them."""
        if task.labels:
            return {}
        return {"labels": sorted({name for row in rows for name in _labels(task, row)})}

    def features(self, task, rows, encode):
        """Read the first token; the target is 1 for each label that is given, else 0."""
        rows, given = tee(rows)
        texts = ((row.value("text", str), row.value("text_pair", str, None)) for row in given)
        for row, encoded in zip(rows, encode.texts(texts), strict=True):
            labels = _labels(task, row)
            if more := set(labels) - set(task.labels):
                encode.count("labels not in training", len(more))
            target = [float(name in labels) for name in task.labels]
            yield Feature((encoded,), reads=[0], target=target, reference=labels)

    def head(self, task, hidden_size):
        """Dense, tanh, projection."""
        return SequenceHead(hidden_size, len(task.labels))

    def loss(self, scores, targets, splits):
        """Mean binary cross entropy over the labels. *Shape:* (B, K), (B K,) -> (B,)."""
        targets_BK = targets.view_as(scores)
        return binary_cross_entropy_with_logits(scores, targets_BK, reduction="none").mean(-1)

    def decode(self, task, scores, splits):
        """The names of the labels given, sorted, as references are."""
        given = (scores > 0).tolist()
        return [sorted(n for n, yes in zip(task.labels, row, strict=True) if yes) for row in given]

    def metrics(self, task, predictions, references):
        """F1 in percent: micro over all decisions, macro over the labels that occur."""
        names = sorted({name for labels in [*predictions, *references] for name in labels})
        if not names:  # nothing to give, and nothing given
            return {"micro_f1": 100.0, "macro_f1": 100.0}
        ours, gold = (
            np.array([[name in labels for name in names] for labels in each])
            for each in (predictions, references)
        )
        right, given = (ours & gold).sum(0), ours.sum(0) + gold.sum(0)
        micro, macro = 2 * right.sum() / given.sum(), np.mean(2 * right / given)
        return {"micro_f1": 100 * float(micro), "macro_f1": 100 * float(macro)}


def _labels(task, row):
    """The different labels of a row; none where the field is empty."""
    value = row.get("labels")
    if isinstance(value, str):
        value = [name.strip() for name in value.split(task.option("separator"))]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise MtlplugError(f"{row.where}: column 'labels' holds {value!r}; give a list of names")
    return sorted(set(value) - {""})


@mtlplug.hookimpl
def mtlplug_task_formats():
    """Called by mtlplug when it starts."""
    return [MultiLabel()]
