"""SL: one label for each word of a sentence; entity F1 as seqeval counts it in strict IOB2.

Padmakumar et al. (2022), section 3.1: a linear classifier on the first sub-token of each word.
Shapes: R words read (sub-tokens with `label_all_tokens`), B features, K labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import tee
from typing import TYPE_CHECKING, Any, cast
from unicodedata import category

from mtlplug_sl_detail import EntityDetail, on_words
from seqeval.scheme import IOB2
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mtlplug import hookimpl
from mtlplug.errors import MtlplugError, unknown
from mtlplug.formats import IGNORE, Feature, Row, Task, TaskFormat
from mtlplug.heads import TokenHead, stock_model
from mtlplug.ragged import Splits, mean_per_feature, split
from mtlplug.schemes import OUTSIDE, PLAIN, detect, iob2_labels, to_iob2
from mtlplug.scoring import metrics_of_guesses

if TYPE_CHECKING:
    import numpy.typing as npt
    from transformers import PreTrainedModel

    from mtlplug.data.tokens import Encode, Encoded


class SequenceLabelling(EntityDetail):
    """Word labels in any tag scheme, converted to IOB2.

    Options:
        label_all_tokens: train on all sub-tokens of a word, those after the first labelled as
            inside; scores are always those of the first.
    """

    code = "SL"
    title = "sequence labelling"
    headline = "f1"
    columns = ("tokens", "tags")
    independent_rows = True
    options: Mapping[str, Any] = {"label_all_tokens": False}

    def prepare(self, task: Task, rows: Iterable[Row]) -> dict[str, Any]:
        """The tag scheme, and the IOB2 labels unless the suite names them."""
        seen: dict[str, str] = {}  # and where first

        def sentences() -> Iterator[list[str]]:
            for row in rows:
                _, tags = _columns(row)
                for tag in tags:
                    if tag not in seen:
                        seen[tag] = row.where
                yield tags

        scheme = detect(sentences())
        if scheme == PLAIN:
            _check_plain(task, seen)
        if task.labels:
            return {"scheme": scheme}
        return {"scheme": scheme, "labels": iob2_labels(seen, scheme)}

    def features(self, task: Task, rows: Iterable[Row], encode: Encode) -> Iterator[Feature]:
        """One feature a sentence, which reads the first sub-token of each word that has one."""
        usable, given = tee(_usable(task, rows, encode))
        encodings = encode.words(tokens for tokens, _ in given)
        index = {name: number for number, name in enumerate(task.labels)}
        for (_, tags), encoded in zip(usable, encodings, strict=True):
            read = _read(encoded, all_tokens=task.option("label_all_tokens"))
            words = [word for _, word, _ in read]
            _count_unread(encode, encoded, tags, words)
            if not words:  # it stays: its entities are missed, whatever the tokenizer
                encode.count("rows without tokens")
            names = [tags[word] if first else _inside(tags[word]) for _, word, first in read]
            target = [index.get(name, IGNORE) for name in names]
            if IGNORE in target:
                encode.count("labels not in training", target.count(IGNORE))
            reads = [position for position, _, _ in read]
            yield Feature((encoded,), reads, target, {"tags": tags, "words": words})

    def head(self, task: Task, hidden_size: int) -> nn.Module:
        """One linear layer."""
        return TokenHead(hidden_size, len(task.labels))

    def loss(self, scores: Tensor, targets: Tensor, splits: Splits) -> Tensor:
        """Mean cross entropy of each sentence. *Shape:* (R, K), (R,) -> (B,)."""
        losses_R = cross_entropy(scores, targets, ignore_index=IGNORE, reduction="none")
        return mean_per_feature(losses_R, splits, targets != IGNORE)

    def decode(self, task: Task, scores: Tensor, splits: Splits) -> list[Any]:
        """The name of the best label of each row read."""
        best = split(scores.argmax(-1), splits)
        return [[task.labels[number] for number in best_R.tolist()] for best_R in best]

    def metrics(
        self, task: Task, predictions: Sequence[Any], references: Sequence[Any]
    ) -> dict[str, float]:
        """Precision, recall and F1 of entities, accuracy of words, in percent.

        An entity counts if its type and both ends are right, and if its labels are valid IOB2.
        Words that were cut off, or became no token, count as predicted outside.
        """
        # Here, because scikit-learn comes with it: its import would be half of a command's start.
        from seqeval.metrics import accuracy_score
        from seqeval.metrics.v1 import precision_recall_fscore_support

        gold = [reference["tags"] for reference in references]
        ours = [on_words(*pair) for pair in zip(predictions, references, strict=True)]
        precision, recall, f1, _ = precision_recall_fscore_support(
            gold, ours, average="micro", scheme=IOB2, zero_division=0
        )
        accuracy = accuracy_score(gold, ours)
        scores = {"f1": f1, "precision": precision, "recall": recall, "accuracy": accuracy}
        return {name: 100 * float(score) for name, score in scores.items()}

    def unlabelled(self, task: Task, row: Row) -> Row:
        """A row with some tags; a text becomes words, signs around them apart."""
        text = row.get("text")
        tokens = row["tokens"] if "tokens" in row else _words(text) if type(text) is str else None
        tag = OUTSIDE if OUTSIDE in task.labels else task.labels[0]
        if task.facts["scheme"] == PLAIN:
            tag = tag.removeprefix("B-")
        tags = [tag] * len(tokens) if type(tokens) is list else None
        return Row({**row, "tokens": tokens, "tags": tags}, row.where)

    def present(
        self, task: Task, row: Row, features: Sequence[Feature], scores: Tensor, splits: Splits
    ) -> Any:
        """Entities with their characters in the text, and the IOB2 label of each word.

        The score of an entity is the mean probability of its words' labels. A row without
        `text` has its words joined by blanks. Words that were cut off are outside.
        """
        best_R, numbers_R = scores.softmax(-1).max(-1)
        words = features[0].reference["words"]
        names = [task.labels[number] for number in numbers_R.tolist()]
        labels = on_words(names, features[0].reference)
        sure = dict(zip(reversed(words), reversed(best_R.tolist()), strict=True))
        text, places = _places(row["tokens"], row.get("text"))
        entities = []
        for kind, first, end in _entities(labels):
            low, high = places[first][0], places[end - 1][1]
            score = sum(sure[word] for word in range(first, end)) / (end - first)
            entity = {"type": kind, "text": text[low:high], "start": low, "end": high}
            entities.append({**entity, "score": score})
        return {"entities": entities, "tokens": row["tokens"], "labels": labels}

    def baselines(
        self, task: Task, targets: Sequence[npt.NDArray[Any]], references: Sequence[Any]
    ) -> dict[str, dict[str, float]]:
        """Labels of words drawn as often as they occur in training, and the most frequent one."""
        return metrics_of_guesses(
            lambda guesses: self.metrics(task, guesses, references),
            task.labels,
            targets,
            [len(reference["words"]) for reference in references],
        )

    def export(self, task: Task, head: nn.Module, encoder: PreTrainedModel) -> PreTrainedModel:
        """`AutoModelForTokenClassification` with equal logits."""
        from transformers import AutoModelForTokenClassification

        layers = cast(TokenHead, head).stock_layers(encoder.config)
        return stock_model(AutoModelForTokenClassification, encoder, task.labels, layers)


def _check_plain(task: Task, seen: Mapping[str, str]) -> None:
    """Refuse tags that are taken for types, and yet come in pairs of B-X and I-X.

    Then words outside are not marked by `O`, or prefixes are in small letters.

    Raises:
        MtlplugError: names such a tag and where it is.
    """
    pairs = {(tag[:2].upper(), tag[2:]): tag for tag in seen}
    for (prefix, kind), tag in pairs.items():
        if prefix in ("B-", "B_") and ("I" + prefix[1], kind) in pairs:
            raise MtlplugError(
                f"{seen[tag]}: task '{task.name}' has tags such as '{tag}', but most of its tags "
                "have no B- or I-; write prefixes in capitals, and words outside as O"
            )


def _columns(row: Row) -> tuple[list[str], list[str]]:
    tokens, tags = row.get("tokens"), row.get("tags")
    if not isinstance(tokens, list) or not isinstance(tags, list) or len(tokens) != len(tags):
        sizes = [len(column) if isinstance(column, list) else column for column in (tokens, tags)]
        raise MtlplugError(
            f"{row.where}: {sizes[0]} tokens and {sizes[1]} tags; "
            "columns 'tokens' and 'tags' must be lists of one length"
        )
    for column, values in (("tokens", tokens), ("tags", tags)):
        for value in values:
            if not isinstance(value, str) or (column == "tags" and not value):
                raise MtlplugError(
                    f"{row.where}: column '{column}' holds {value!r}; tokens must be texts and "
                    "tags names such as 'B-PER'"
                )
    return tokens, tags


def _usable(
    task: Task, rows: Iterable[Row], encode: Encode
) -> Iterator[tuple[list[str], list[str]]]:
    """Tokens and IOB2 tags of the rows that have any."""
    for row in rows:
        tokens, raw = _columns(row)
        if not tokens:
            encode.count("rows without tokens")
            continue
        tags, repaired = to_iob2(raw, task.facts["scheme"])
        # Labels that the suite names are all there are; learnt ones may be incomplete.
        if "labels" not in task.facts and (alien := set(tags).difference(task.labels)):
            raise MtlplugError(f"{row.where}: {unknown('label', min(alien), task.labels)}")
        if repaired:
            encode.count("tags repaired", repaired)
        yield tokens, tags


def _read(encoded: Encoded, *, all_tokens: bool) -> list[tuple[int, int, bool]]:
    """Position of each sub-token read, its word, and whether it is the word's first."""
    read = []
    before = None
    for position, word in enumerate(encoded.words):
        if word is not None and (all_tokens or word != before):
            read.append((position, word, word != before))
        before = word
    return read


def _count_unread(
    encode: Encode, encoded: Encoded, tags: Sequence[str], words: Sequence[int]
) -> None:
    """Count words cut off, the entities they belong to, and words that became no token."""
    kept = max(words, default=-1) + 1 if encoded.truncated else len(tags)
    cut = tags[kept:]
    if cut:
        encode.count("words cut", len(cut))
        entities = sum(tag[0] == "B" for tag in cut) + (cut[0][0] == "I")
        if entities:
            encode.count("entities cut", entities)
    if vanished := kept - len(set(words)):
        encode.count("words without tokens", vanished)


def _words(text: str) -> list[str]:
    """What blanks separate, with the signs at either end of it as words of their own."""
    words = []
    for word in text.split():
        inner = [place for place, sign in enumerate(word) if category(sign)[0] not in "PS"]
        first, end = (inner[0], inner[-1] + 1) if inner else (len(word), len(word))
        words += [*word[:first], *([word[first:end]] if inner else []), *word[end:]]
    return words


def _places(tokens: Sequence[str], text: str | None) -> tuple[str, list[tuple[int, int]]]:
    """The text of a sentence, and the first character and the end of each of its words."""
    for whole in (text, " ".join(tokens)):
        places, at = [], 0
        for token in tokens:
            if whole is None or (start := whole.find(token, at)) < 0:
                break
            at = start + len(token)
            places.append((start, at))
        if whole is not None and len(places) == len(tokens):
            break
    return str(whole), places


def _entities(labels: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Type, first word and end of each entity; an inside label that continues none begins one."""
    first, kind = None, ""
    for word, label in enumerate([*labels, OUTSIDE]):
        goes_on = label[0] == "I" and label[2:] == kind
        if first is not None and not goes_on:
            yield kind, first, word
            first = None
        if label != OUTSIDE and first is None:
            first, kind = word, label[2:]


def _inside(tag: str) -> str:
    return tag if tag == OUTSIDE else "I" + tag[1:]


@hookimpl
def mtlplug_task_formats() -> Iterable[TaskFormat]:
    """Sequence labelling."""
    return [SequenceLabelling()]
