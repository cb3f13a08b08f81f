"""Gold against gold: what is stored for training is scored against what is stored for scoring.

A model that gives every target the highest score must reach 100 in the task's own metrics. For
`untouched.py` the texts are read back from the stored tokens, with the labels they bear. Both look
at finished stores only, so that a shift anywhere between file and store is seen.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from tokenizers.decoders import ByteLevel as Bytes
from transformers import PreTrainedTokenizerFast

from mtlplug.data.build import TaskData
from mtlplug.data.store import FeatureStore
from mtlplug.formats import IGNORE
from mtlplug.ragged import Splits

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
Stored = tuple[Any, ...]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token for every byte: what is stored can be read back."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIALS, *alphabet])}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = Bytes()
    return _with_specials(backend)


def word_tokenizer() -> PreTrainedTokenizerFast:
    """BERT's cleaning, small letters, no accents; letters as pieces: tokens vanish in it."""
    letters = [chr(number) for number in range(33, 127)]
    pieces = [*SPECIALS, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _with_specials(backend)


def _with_specials(backend: Tokenizer) -> PreTrainedTokenizerFast:
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", SPECIALS.index("[CLS]")), ("[SEP]", SPECIALS.index("[SEP]"))],
    )
    backend.add_special_tokens(list(SPECIALS))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]",
    )  # fmt: skip


class Gold:
    """What the stores of one task say of their own gold."""

    def __init__(self, data: TaskData, tokenizer: PreTrainedTokenizerFast) -> None:
        self.data = data
        self._decode = tokenizer.backend_tokenizer.decode
        self._exact = isinstance(tokenizer.backend_tokenizer.decoder, Bytes)

    def faults(self, split: str) -> list[str]:
        """Where gold against gold does not score 100."""
        check = {"SL": self._of_words, "C": self._of_texts, "QA": self._of_answers}
        return list(check[self.data.format.code](self.data.stores[split]))

    def stored(self, split: str) -> Iterator[Stored]:
        """The texts of each feature, read back from its tokens, and what they are labelled with.

        Pairs of word and tag; text, second text and label; question, context and answer. None is
        what has no target.
        """
        store = self.data.stores[split]
        read = {"SL": self._words, "C": self._texts, "QA": self._answers}[self.data.format.code]
        return (read(store, number) for number in range(len(store)))

    # ---- read back ----

    def _tokens(self, store: FeatureStore, number: int) -> tuple[Any, Any, Any, list[int]]:
        feature = store.feature(number)
        ids, types = feature.tokens()
        return ids, types, feature.reads(np.zeros(1, np.int64)), store.target(number).tolist()

    def _text(self, ids: Any) -> str:
        return str(self._decode(ids.tolist()))

    def _name(self, target: int) -> str | None:
        return None if target == IGNORE else self.data.task.labels[target]

    def _words(self, store: FeatureStore, number: int) -> Stored:
        ids, _, reads, target = self._tokens(store, number)
        ends = [*reads[1:], len(ids) - 1]
        words = [
            self._text(ids[start:end]).removeprefix(" ")
            for start, end in zip(reads, ends, strict=True)
        ]
        return tuple(words), tuple(map(self._name, target))

    def _texts(self, store: FeatureStore, number: int) -> Stored:
        ids, types, _, (target,) = self._tokens(store, number)
        return self._text(ids[types == 0]), self._text(ids[types == 1]), self._name(target)

    def _answers(self, store: FeatureStore, number: int) -> Stored:
        ids, types, reads, (start, end) = self._tokens(store, number)
        answer = None if start == IGNORE else ""
        if start > 0:
            answer = self._text(ids[reads[start] : reads[end] + 1])
        return self._text(ids[types == 0]), self._text(ids[types == 1]), answer

    # ---- scored ----

    def _of_words(self, store: FeatureStore) -> Iterator[str]:
        tags, golds = [], []
        for number in range(len(store)):
            reference = store.reference(number)
            (predicted,) = self._decoded([store.target(number)], len(self.data.task.labels))
            whole = list(reference["tags"])  # of words that are not read, and of unknown labels
            for word, target, name in zip(
                reference["words"], store.target(number), predicted, strict=True
            ):
                if target != IGNORE:
                    whole[word] = name
            tags.append(whole)
            golds.append({"tags": reference["tags"], "words": range(len(whole))})
        scores = self.data.format.metrics(self.data.task, tags, golds)
        entities = any(tag[0] == "B" for gold in golds for tag in gold["tags"])
        yield from _short_of_100(scores, ("accuracy", "f1") if entities else ("accuracy",))

    def _of_texts(self, store: FeatureStore) -> Iterator[str]:
        targets = [store.target(number) for number in range(len(store))]
        golds = [store.reference(number) for number in range(len(store))]
        names = self._decoded(targets, len(self.data.task.labels))
        guesses = [
            gold if target[0] == IGNORE else name
            for name, gold, target in zip(names, golds, targets, strict=True)
        ]
        yield from _short_of_100(
            self.data.format.metrics(self.data.task, guesses, golds), ("accuracy",)
        )

    def _of_answers(self, store: FeatureStore) -> Iterator[str]:
        """Questions whose answer has no place, or lies in no window whole, are counted instead.

        So are those without an answer where training has none such: every model answers them.
        """
        silent = self.data.task.facts["unanswerable"]
        longest = self.data.task.option("max_answer_length")
        targets = [store.target(number).tolist() for number in range(len(store))]
        references = [store.reference(number) for number in range(len(store))]
        placed = {
            reference["row"]
            for reference, target in zip(references, targets, strict=True)
            if target[0] != IGNORE
            and target[1] - target[0] < longest
            and (target != [0, 0] or (silent and not reference["answers"]))
        }
        kept = [n for n, reference in enumerate(references) if reference["row"] in placed]
        scores, sizes = [], store.read_counts_N.tolist()
        for number in kept:
            rows_R2 = np.zeros((sizes[number], 2), np.float32)
            for column, at in enumerate(targets[number]):
                rows_R2[at, column] = 1 + (at > 0)
            scores.append(rows_R2)
        if not kept:
            return
        splits = Splits.of(map(len, scores))
        made = torch.from_numpy(np.concatenate(scores))
        guesses = self.data.format.decode(self.data.task, made, splits)
        golds = [references[number] for number in kept]
        if self._exact:
            # How much surer than of silence a model must be to answer is no matter of labels.
            options = {**self.data.task.options, "no_answer_threshold": 0.0}
            task = dataclasses.replace(self.data.task, options=options)
            found = self.data.format.metrics(task, guesses, golds)
            yield from _short_of_100(found, ("f1", "exact_match"))
        else:
            yield from _uncovered(guesses, golds)

    def _decoded(self, targets: list[Any], labels: int) -> list[Any]:
        """What the format makes of scores that are highest at the targets."""
        laid = torch.from_numpy(np.concatenate(targets))
        scores = torch.nn.functional.one_hot(laid.clamp(min=0), labels).float()
        splits = Splits.of(map(len, targets))
        return self.data.format.decode(self.data.task, scores, splits)


def _short_of_100(scores: dict[str, float], names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        if abs(scores[name] - 100) > 1e-6:
            yield f"gold against gold: {name} {scores[name]:.2f}"


def _uncovered(guesses: list[Any], golds: list[Any]) -> Iterator[str]:
    """Answers that do not hold any gold one, where tokens may hold more than the answer."""
    for guess, gold in zip(guesses, golds, strict=True):
        if gold["answers"] and guess["spans"] and guess["spans"][0][2] > 3:
            first, last, _ = guess["spans"][0]
            answer = gold["context"][gold["offsets"][2 * first - 2] : gold["offsets"][2 * last - 1]]
            if not any(_bare(text) in _bare(answer) for text in gold["answers"]):
                yield f"gold against gold: {answer!r:.60} for {gold['answers']!r:.60}"


def _bare(text: str) -> str:
    return re.sub(r"\W", "", text.casefold())
