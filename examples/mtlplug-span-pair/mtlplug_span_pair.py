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
        return {} if task.labels else {"labels": sorted({_checked(row) for row in rows})}

    def features(self, task, rows, encode):
        """Read the first token of the pair and of each span."""
        kept, given = tee(rows)
        encodings = encode.texts((row["text"], row["text_pair"]) for row in given)
        for row, encoded in zip(kept, encodings, strict=True):
            label = _checked(row)
            if label not in task.labels:
                raise MtlplugError(f"{row.where}: {unknown('label', label, task.labels)}")
            reads = [0]
            tokens = list(zip(encoded.segments, encoded.offsets, strict=True))
            for text, (start, end) in enumerate(SPANS):
                inside = [
                    position
                    for position, (segment, (first, last)) in enumerate(tokens)
                    if segment == text and first < row[end] and last > row[start]
                ]
                if not inside:
                    encode.count("spans cut")
                reads.append(inside[0] if inside else 0)
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


def _checked(row):
    """The label of a row whose spans lie in its texts."""
    for text, (start, end) in zip(("text", "text_pair"), SPANS, strict=True):
        value, span = row.get(text), (row.get(start), row.get(end))
        if not isinstance(value, str) or not all(isinstance(place, int) for place in span):
            names = f"'{text}', '{start}' and '{end}'"
            raise MtlplugError(f"{row.where}: columns {names} must be a text and two whole numbers")
        if not 0 <= span[0] < span[1] <= len(value):
            raise MtlplugError(f"{row.where}: span {span[0]} to {span[1]} lies not in '{text}'")
    return str(row["label"])


@mtlplug.hookimpl
def mtlplug_task_formats():
    """Called by mtlplug when it starts."""
    return [SpanPair()]
