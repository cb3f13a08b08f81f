"""MLM: masked-language modelling beside other tasks, as a regulariser.

Devlin et al. (2019), section 3.1: the encoder reads a text in which some tokens are masked, and the
head says which they were, by the encoder's own input embeddings: logits = E norm(gelu(W h + b)).
There is no bias over the vocabulary. Every chosen token becomes the mask; random and kept ones are
left out. Shapes: R masked tokens, D hidden width, V vocabulary.
"""

from copy import copy
from itertools import tee
from zlib import crc32

import numpy as np
from torch import nn
from torch.nn.functional import cross_entropy, gelu, linear

import mtlplug
from mtlplug.errors import MtlplugError
from mtlplug.formats import Feature, TaskFormat
from mtlplug.heads import new_linear
from mtlplug.ragged import mean_per_feature, split

MASKS = ("[MASK]", "<mask>")


class MaskedLanguageModelling(TaskFormat):
    """Accuracy of masked tokens. Give its tasks a small `weight`.

    Features are made once, so masks are the same in every epoch; `copies` makes several of each
    text, masked differently (Liu et al., 2019, section 4.1, took ten).
    """

    code, title, headline = "MLM", "masked-language modelling", "accuracy"
    columns = ("text", "text_pair")
    options = {"rate": 0.15, "copies": 1}
    borrows = ("input_embeddings",)
    chooses = ()  # tokens of a vocabulary that a format does not know

    def features(self, task, rows, encode):
        """Read the masked tokens; the target is what they were."""
        mask = _mask(encode)
        kept, given = tee(rows)
        encodings = encode.texts((_text(row, "text"), _text(row, "text_pair")) for row in given)
        for _, encoded in zip(kept, encodings, strict=True):
            places = [p for p, segment in enumerate(encoded.segments) if segment is not None]
            if not places:
                encode.count("texts without tokens")
                continue
            for number in range(task.option("copies")):
                # By the text itself: the same mask whatever rows stand around it.
                draw = np.random.default_rng([crc32(encoded.ids.tobytes()), number])
                count = max(1, round(task.option("rate") * len(places)))
                reads = np.sort(draw.choice(places, min(count, len(places)), replace=False))
                target = encoded.ids[reads].astype(np.int64)
                masked = copy(encoded)
                masked.ids = encoded.ids.copy()
                masked.ids[reads] = mask
                yield Feature((masked,), reads, target, target.tolist())

    def head(self, task, hidden_size):
        """Dense, gelu, layer norm, and the product with the input embeddings."""
        return Tied(hidden_size)

    def loss(self, scores, targets, splits):
        """Mean cross entropy over the masked tokens. *Shape:* (R, V), (R,) -> (B,)."""
        return mean_per_feature(cross_entropy(scores, targets, reduction="none"), splits)

    def decode(self, task, scores, splits):
        """The best token of each masked one."""
        return [best_R.tolist() for best_R in split(scores.argmax(-1), splits)]

    def metrics(self, task, predictions, references):
        """Accuracy over all masked tokens, in percent."""
        ours, gold = (np.concatenate([*each, []]) for each in (predictions, references))
        return {"accuracy": 100 * float(np.mean(ours == gold))}


class Tied(nn.Module):
    """The transform of BERT's head, and a decoder that the encoder lends. (R, D) -> (R, V)."""

    def __init__(self, hidden_size):
        super().__init__()
        self.dense = new_linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, rows_RD, splits, input_embeddings):
        """Scores of every row."""
        if input_embeddings.shape[-1] != rows_RD.shape[-1]:
            raise MtlplugError(
                f"format MLM needs input embeddings as wide as the hidden states, "
                f"{rows_RD.shape[-1]}; this encoder's are {input_embeddings.shape[-1]} wide"
            )
        return linear(self.norm(gelu(self.dense(rows_RD))), input_embeddings)


def _text(row, column):
    """A text, or the words of one joined with blanks."""
    value = row.get(column)
    if isinstance(value, list):
        value = " ".join(map(str, value))
    if not isinstance(value, str) and (value is not None or column == "text"):
        raise MtlplugError(f"{row.where}: column '{column}' holds {value!r}, which is no text")
    return value


def _mask(encode):
    """The number of the mask token: the mask that the tokenizer takes for a token of its own."""
    for mask in MASKS:
        (encoded,) = encode.texts([(mask, None)])
        if mask in encoded.tokens:
            return encoded.ids[encoded.tokens.index(mask)]
    raise MtlplugError(f"format MLM needs a tokenizer with a mask token: {' or '.join(MASKS)}")


@mtlplug.hookimpl
def mtlplug_task_formats():
    """Called by mtlplug when it starts."""
    return [MaskedLanguageModelling()]
