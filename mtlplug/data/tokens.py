"""The tokenizer service that formats use: text, pairs, words and windows to token ids.

Works on the Rust tokenizer directly (`tokenizers`), in batches over all cores; truncation and
padding settings stored in a tokenizer's own file are not used.

Shapes: L tokens of one sequence.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from mtlplug.errors import MtlplugError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHUNK = 512
"""Texts handed to the tokenizer at once: enough for all its threads, little memory."""

CUTS = TEXTS_CUT, SENTENCES_CUT, QUESTIONS_CUT = "texts cut", "sentences cut", "questions cut"
"""What `Encode` counts by itself; what else is lost with the text, a format counts."""

Item = TypeVar("Item")


class Encoded:
    """One tokenised sequence, special tokens included.

    Attributes:
        ids: token ids, shape (L,).
        types: token type ids, shape (L,); zeros where the family has none.
        truncated: whether some of the text was cut off.
    """

    __slots__ = ("encoding", "ids", "truncated", "types")

    def __init__(self, encoding: Encoding, *, truncated: bool = False) -> None:
        self.encoding = encoding
        self.ids: npt.NDArray[np.uint32] = np.array(encoding.ids, dtype=np.uint32)
        self.types: npt.NDArray[np.uint8] = np.array(encoding.type_ids, dtype=np.uint8)
        self.truncated = truncated

    @property
    def words(self) -> list[int | None]:
        """For each token the number of its word; None for special tokens."""
        return list(self.encoding.word_ids)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """For each token its first character and the one after its last, in its own text."""
        return list(self.encoding.offsets)

    @property
    def segments(self) -> list[int | None]:
        """For each token 0 (first text), 1 (second text) or None (special token)."""
        return list(self.encoding.sequence_ids)

    @property
    def tokens(self) -> list[str]:
        """The tokens as text, for people."""
        return list(self.encoding.tokens)

    def __len__(self) -> int:
        return len(self.ids)


class Encode:
    """Tokenises for one split of one task and counts what was cut or repaired.

    Args:
        tokenizer: a fast transformers tokenizer.
        max_length: most tokens of a sequence, special tokens included.

    Attributes:
        first_row: number in the split of the first row that is given, from 0.
        counts: what was cut, dropped or repaired.
        values: of each thing counted by `count_repeated` the values there were.

    Raises:
        MtlplugError: the tokenizer has no fast version.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise MtlplugError(
                f"the tokenizer {type(tokenizer).__name__} has no fast version (tokenizer.json); "
                "choose a model that has one"
            )
        self.max_length = max_length
        self.first_row = 0
        self.counts: Counter[str] = Counter()
        self.values: dict[str, set[str]] = {}
        self._json: str = backend.to_str()
        self._backends: dict[tuple[Any, ...], Tokenizer] = {}

    def part(self, first_row: int) -> Encode:
        """The same service for rows from this one on, which counts by itself."""
        other = copy.copy(self)
        other.first_row, other.counts, other.values = first_row, Counter(), {}
        return other

    def count(self, what: str, number: int = 1) -> None:
        """Count something dropped, cut or repaired, shown to the user per task."""
        self.counts[what] += number

    def count_repeated(self, what: str, value: str) -> None:
        """Count a value that another row of the split has, too, however the split is cut."""
        values = self.values.setdefault(what, set())
        if value in values:
            self.count(what)
        values.add(value)

    def texts(self, texts: Iterable[tuple[str, str | None]]) -> Iterator[Encoded]:
        """Encode texts or pairs of texts; the longest of a pair is cut first."""
        backend = self._backend(self.max_length)
        for chunk in _chunks(texts, CHUNK):
            inputs = [first if second is None else (first, second) for first, second in chunk]
            for encoding in backend.encode_batch(inputs):
                yield self._encoded(encoding, TEXTS_CUT)

    def words(self, sentences: Iterable[Sequence[str]]) -> Iterator[Encoded]:
        """Encode sentences given as words; `Encoded.words` tells which token is whose."""
        backend = self._backend(self.max_length, words=True)
        for chunk in _chunks(sentences, CHUNK):
            inputs = [list(words) for words in chunk]
            for encoding in backend.encode_batch(inputs, is_pretokenized=True):
                yield self._encoded(encoding, SENTENCES_CUT)

    def windows(
        self, pairs: Iterable[tuple[str, str]], stride: int, max_first: int
    ) -> Iterator[list[Encoded]]:
        """Encode (question, context) pairs, a long context as overlapping windows.

        Args:
            pairs: question and context.
            stride: tokens by which neighbouring windows overlap.
            max_first: most tokens of the question; a longer one is cut and counted.

        Raises:
            MtlplugError: the window leaves no room for the context beside the question.
        """
        plain = self._backend(None)
        specials = plain.num_special_tokens_to_add(True)
        room = self.max_length - specials - max_first
        if room <= stride:
            raise MtlplugError(
                f"windows of {self.max_length} tokens with a question of up to {max_first} leave "
                f"{max(room, 0)} for the context, not more than the stride of {stride}; "
                "raise max_length or lower stride"
            )
        backend = self._backend(self.max_length, stride=stride, strategy="only_second")
        for chunk in _chunks(pairs, CHUNK):
            firsts = plain.encode_batch([first for first, _ in chunk], add_special_tokens=False)
            inputs = [
                (self._shortened(first, encoding, max_first), second)
                for (first, second), encoding in zip(chunk, firsts, strict=True)
            ]
            for encoding in backend.encode_batch(inputs):
                yield [Encoded(window) for window in [encoding, *encoding.overflowing]]

    def _shortened(self, text: str, encoding: Encoding, most: int) -> str:
        if len(encoding) <= most:
            return text
        self.count(QUESTIONS_CUT)
        return text[: encoding.offsets[most - 1][1]]

    def _encoded(self, encoding: Encoding, what: str) -> Encoded:
        truncated = bool(encoding.overflowing)
        if truncated:
            self.count(what)
        return Encoded(encoding, truncated=truncated)

    def _backend(
        self, max_length: int | None, *, words: bool = False, **truncation: Any
    ) -> Tokenizer:
        """A private copy of the Rust tokenizer with the truncation wanted, made once."""
        key = (max_length, words, *truncation.items())
        if key in self._backends:
            return self._backends[key]
        backend = Tokenizer.from_str(_with_prefix_space(self._json) if words else self._json)
        backend.no_padding()
        backend.no_truncation()
        if max_length is not None:
            backend.enable_truncation(max_length, **truncation)
        self._backends[key] = backend
        return backend


def _with_prefix_space(text: str) -> str:
    """A tokenizer that takes each word as following a blank.

    Byte-level BPE (RoBERTa, ModernBERT) tells a word's first piece by the blank before it,
    which words given one by one lack.
    """
    description = json.loads(text)
    step = description.get("pre_tokenizer") or {}
    for part in [step, *step.get("pretokenizers", [])]:
        if part.get("type") == "ByteLevel":
            part["add_prefix_space"] = True
    return json.dumps(description)


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
