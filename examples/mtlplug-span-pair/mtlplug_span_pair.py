"""SPAN: does a word mean the same in two sentences? Word in Context (WiC).

The head reads three rows, as the baselines of SuperGLUE do (Wang et al., 2019, section 4.2): the
first token's, and that of the first token of each marked word. Format C gets the same pair of
texts and the first token's row alone, so that nothing tells it which word is meant.
Shapes: B features, K labels.
"""

from itertools import tee

from torch import nn
from torch.nn.functional import cross_entropy

import mtlplug
from mtlplug.errors import MtlplugError, unknown
from mtlplug.formats import Feature, TaskFormat
from mtlplug.heads import TokenHead

SPANS = (("start", "end"), ("start_pair", "end_pair"))


class SpanPair(TaskFormat):
    """One label for two marked spans; ends are characters, the first and the one after the last."""

    code, title, headline = "SPAN", "pairs of spans", "accuracy"
    columns = ("text", "text_pair", "start", "end", "start_pair", "end_pair", "label")

    def prepare(self, task, rows):
        """The names of the labels, sorted, unless the suite has them."""
        return {} if task.labels else {"labels": sorted({_read(row)[-1] for row in rows})}

    def features(self, task, rows, encode):
        """Read the first token of the pair and of each span."""
        rows, given = tee(rows)
        encodings = encode.texts(_read(row)[0] for row in given)
        for row, encoded in zip(rows, encodings, strict=True):
            _, spans, label = _read(row)
            if label not in task.labels:
                raise MtlplugError(f"{row.where}: {unknown('label', label, task.labels)}")
            tokens = list(zip(encoded.segments, encoded.offsets, strict=True))
            reads = [0]
            for text, (start, end) in enumerate(spans):
                inside = (
                    place
                    for place, (segment, (first, last)) in enumerate(tokens)
                    if segment == text and first < end and last > start
                )
                reads.append(next(inside, 0))
                if not reads[-1]:
                    encode.count("spans cut")
            yield Feature((encoded,), reads, [task.labels.index(label)], label)

    def head(self, task, hidden_size):
        """One linear layer on the three rows side by side."""
        return Rows(hidden_size, len(task.labels))

    def loss(self, scores, targets, splits):
        """Cross entropy. *Shape:* (B, K), (B,) -> (B,)."""
        return cross_entropy(scores, targets, reduction="none")

    def decode(self, task, scores, splits):
        """The name of the best label."""
        return [task.labels[number] for number in scores.argmax(-1).tolist()]

    def metrics(self, task, predictions, references):
        """Accuracy in percent."""
        right = sum(ours == gold for ours, gold in zip(predictions, references, strict=True))
        return {"accuracy": 100 * right / len(references)}


class Rows(nn.Module):
    """A linear layer on the rows of a feature side by side. *Shape:* (3 B, D) -> (B, K)."""

    def __init__(self, hidden_size, labels):
        super().__init__()
        self.linear = TokenHead(3 * hidden_size, labels)

    def forward(self, rows_RD, splits):
        """Scores of every feature."""
        return self.linear(rows_RD.view(len(splits), -1), splits)


def _read(row):
    """The texts of a row, the spans in them, and its label."""
    texts, spans = (row.value("text", str), row.value("text_pair", str)), []
    for text, (start, end) in zip(texts, SPANS, strict=True):
        spans.append((row.value(start, int), row.value(end, int)))
        if not 0 <= spans[-1][0] < spans[-1][1] <= len(text):
            raise MtlplugError(f"{row.where}: {start} to {end} is {spans[-1]}, no part of {text!r}")
    if not isinstance(row.get("label"), str | int):
        raise MtlplugError(f"{row.where}: label {row.get('label')!r} is neither text nor number")
    return texts, spans, str(row["label"])


@mtlplug.hookimpl
def mtlplug_task_formats():
    """Called by mtlplug when it starts."""
    return [SpanPair()]
