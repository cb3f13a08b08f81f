"""DEP: dependency parsing with biaffine attention, from CoNLL-U.

Dozat and Manning (2017), section 2.2: for word i and head j, with a = MLP(h),
arc(i, j) = a_j' U a_i + u' a_j, and the same with one U for each relation, on vectors of its own.
Heads are chosen one by one, without a search for the best tree. Shapes: N rows of a sentence,
its first token (which stands for the root) and the first sub-token of each word; K relations.
"""

from itertools import chain, tee

import torch
from torch import nn
from torch.nn.functional import nll_loss

import mtlplug
from mtlplug.errors import MtlplugError
from mtlplug.formats import IGNORE, Feature, TaskFormat
from mtlplug.heads import new_linear
from mtlplug.ragged import split


class DependencyParsing(TaskFormat):
    """Head and relation of each word; the suite names the columns of a CoNLL-U file."""

    code, title, headline = "DEP", "dependency parsing", "las"
    columns = ("ids", "tokens", "heads", "relations")
    options = {"arc_size": 128, "relation_size": 64}
    chooses = ("reads", "labels")

    def prepare(self, task, rows):
        """The relations, sorted, unless the suite names them."""
        found = {name for row in rows for _, _, name in _words(row)}
        return {} if task.labels else {"labels": sorted(found)}

    def features(self, task, rows, encode):
        """Read the first token and the first of each word; a target holds head * K + relation."""
        given, sentences = tee(list(_words(row)) for row in rows)
        relations = {name: number for number, name in enumerate(task.labels)}
        encodings = encode.words([token for token, _, _ in words] for words in sentences)
        for words, encoded in zip(given, encodings, strict=True):
            reads, place = [0], {0: 0}  # the row of each word, the root's being 0
            for position, word in enumerate(encoded.words):
                if word is not None and word + 1 not in place:
                    place[word + 1] = len(reads)
                    reads.append(position)
            target = [IGNORE] * len(reads)
            for number, (_, head, name) in enumerate(words, 1):
                if number in place and head in place and name in relations:
                    target[place[number]] = place[head] * len(relations) + relations[name]
                else:
                    encode.count("words without token, head or known relation")
            reference = {"gold": [[head, name] for _, head, name in words], "rows": list(place)}
            yield Feature((encoded,), reads, target, reference)

    def head(self, task, hidden_size):
        """Four perceptrons and two biaffine maps."""
        sizes = task.option("arc_size"), task.option("relation_size")
        return Biaffine(hidden_size, *sizes, len(task.labels))

    def loss(self, scores, targets, splits):
        """Mean over words of both cross entropies. *Shape:* B pairs, (R,) -> (B,).

        log p(head, relation) = log p(head) + log p(relation | head), for each pair a number.
        """
        losses = []
        for (arcs_NN, names_NNK), targets_N in zip(scores, split(targets, splits), strict=True):
            log_p_NNK = arcs_NN.log_softmax(-1)[..., None] + names_NNK.log_softmax(-1)
            total = nll_loss(log_p_NNK.flatten(1), targets_N, ignore_index=IGNORE, reduction="sum")
            losses.append(total / (targets_N != IGNORE).sum().clamp(min=1))
        return torch.stack(losses)

    def decode(self, task, scores, splits):
        """The row of the head and the relation of each row."""
        found = []
        for arcs_NN, names_NNK in scores:
            best = zip(arcs_NN.argmax(-1).tolist(), names_NNK.argmax(-1).tolist(), strict=True)
            found.append([[head, task.labels[names_N[head]]] for head, names_N in best])
        return found

    def metrics(self, task, predictions, references):
        """Attachment scores in percent of all words, punctuation too.

        Relations count with their subtypes (nsubj:pass), which CoNLL 2018's script leaves out.
        """
        words = list(chain.from_iterable(map(_compared, predictions, references)))
        heads = sum(ours[0] == gold[0] for gold, ours in words)
        both = sum(ours == gold for gold, ours in words)
        return {"uas": 100 * heads / max(1, len(words)), "las": 100 * both / max(1, len(words))}

    def wanted_and_given(self, task, predictions, references):
        """Head and relation of each word of a sentence, and those predicted."""
        words = _compared(predictions[0], references[0])
        return tuple(", ".join("{} {}".format(*word[side]) for word in words) for side in (0, 1))


class Biaffine(nn.Module):
    """Scores of all pairs of rows of each sentence: arcs (N, N) and relations (N, N, K)."""

    def __init__(self, hidden_size, arc_size, relation_size, relations):
        super().__init__()
        sizes = (arc_size, arc_size, relation_size, relation_size)
        self.reduce = nn.ModuleList(new_linear(hidden_size, size) for size in sizes)
        self.arcs = new_linear(arc_size + 1, arc_size)
        self.relations = new_linear(relation_size + 1, relations * (relation_size + 1))
        self.dropout = nn.Dropout(0.1)

    def forward(self, rows_RD, splits):
        """Both scores of each sentence: row is the word, column its head."""
        vectors = [self.dropout(layer(self.dropout(rows_RD)).relu()) for layer in self.reduce]
        word_arcs, heads_RA, word_names, head_names = vectors
        # A one beside the vector makes the terms of a word or a head alone.
        words_RA = self.arcs(_with_one(word_arcs))
        heads_RL = _with_one(head_names)
        words_RKL = self.relations(_with_one(word_names)).unflatten(1, (-1, heads_RL.shape[1]))
        parts = (split(rows, splits) for rows in (words_RA, heads_RA, words_RKL, heads_RL))
        return [
            (words_NA @ heads_NA.T, torch.einsum("nkl,ml->nmk", words_NKL, heads_NL))
            for words_NA, heads_NA, words_NKL, heads_NL in zip(*parts, strict=True)
        ]


def _with_one(rows_RL):
    return torch.cat([rows_RL, torch.ones_like(rows_RL[:, :1])], dim=-1)


def _compared(pairs, reference):
    """Head and relation of each word, and those predicted; words that were cut off have none."""
    word_of = reference["rows"]
    found = {word: [word_of[row], name] for word, (row, name) in zip(word_of, pairs, strict=True)}
    return [(gold, found.get(word, "--")) for word, gold in enumerate(reference["gold"], 1)]


def _words(row):
    """Token, head and relation of each word; ranges (3-4) and empty nodes (5.1) are no words."""
    fields = [row.value(name, list) for name in DependencyParsing.columns]
    if len({len(field) for field in fields}) > 1:
        raise MtlplugError(f"{row.where}: columns {DependencyParsing.columns} differ in length")
    words = sum(str(number).isdecimal() for number in fields[0])
    for number, token, head, name in zip(*fields, strict=True):
        if not all(isinstance(value, str) for value in (number, token, head, name)):
            raise MtlplugError(f"{row.where}: {[number, token, head, name]} are not all texts")
        if number.isdecimal():
            if not head.isdecimal() or int(head) > words:
                raise MtlplugError(f"{row.where}: word {number} has the head {head!r}, no word")
            yield token, int(head), name


@mtlplug.hookimpl
def mtlplug_task_formats():
    """Called by mtlplug when it starts."""
    return [DependencyParsing()]
