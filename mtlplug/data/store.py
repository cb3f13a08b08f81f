"""Features as flat arrays on disk, read by memory map.

A folder holds one split of one task: a record for each feature (its tokens, what its head reads,
its target), its reference, and where each of these starts.

Shapes: N features, S sequences, W words.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mtlplug.data.records import HEADER, Integers, Records, Words, record
from mtlplug.errors import MtlplugError
from mtlplug.formats import Feature

STORE_VERSION = 4
"""Raise it when the layout below changes, or how rows become features."""

META = "meta.json"

WORDS, TOKENS, READS, SEQUENCES, REFERENCES = range(5)
"""Columns of `FeatureStore.starts_N1`: where a feature starts in each of these."""

TARGET_TYPES: tuple[np.dtype[Any], ...] = (np.dtype(np.int64), np.dtype(np.float32))
"""What targets are stored as: whole numbers and others."""

BUFFER = 1 << 18
"""Bytes gathered before they are written."""

PIECE = 1024
"""Features whose tokens are read at a time."""


class FeatureWriter:
    """Appends features to a folder; memory does not grow with their number."""

    def __init__(self, folder: Path, *, references: bool) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._files: dict[str, IO[bytes]] = {
            name: (folder / f"{name}.bin").open("wb", buffering=BUFFER)
            for name in ("records", "starts", "sequence_starts", "references")
        }
        self._references = references
        self._ends = [0] * 5
        self._features = 0
        self._target_dtype: np.dtype[Any] | None = None
        self._files["starts"].write(_int64(*self._ends))
        self._files["sequence_starts"].write(_int64(0))

    def add(self, feature: Feature) -> None:
        """Append one feature.

        Raises:
            MtlplugError: its reads lie outside its tokens, or its target changes type.
        """
        sequences = feature.sequences
        ids = np.concatenate([sequence.ids for sequence in sequences])
        types = np.concatenate([sequence.types for sequence in sequences])
        reads = np.asarray(feature.reads, dtype=np.int32)
        # As an unsigned number a negative one is beyond all tokens.
        if reads.ndim != 1 or (len(reads) and reads.view(np.uint32).max() >= len(ids)):
            raise MtlplugError(
                f"a feature reads positions outside its {len(ids)} tokens; "
                "this is a fault of its task format"
            )
        lengths = [len(sequence) for sequence in sequences]
        words = record(ids, types, reads, lengths, self._target(feature.target))
        self._files["records"].write(words.tobytes())
        self._files["sequence_starts"].write(
            _int64(*(self._ends[TOKENS] + end for end in accumulate(lengths)))
        )
        blob = b""
        if self._references:
            blob = json.dumps(feature.reference, ensure_ascii=False).encode()
            self._files["references"].write(blob)
        added = (len(words), len(ids), len(reads), len(lengths), len(blob))
        self._ends = [end + more for end, more in zip(self._ends, added, strict=True)]
        self._files["starts"].write(_int64(*self._ends))
        self._features += 1

    def extend(self, other: FeatureStore) -> None:
        """Append all features of another store.

        Raises:
            MtlplugError: its targets are of another type.
        """
        if other.has_targets:
            self._check_target(other.target_dtype)
        parts: dict[str, npt.NDArray[Any]] = {
            "records": other.words_W,
            "starts": other.starts_N1[1:] + self._ends,
            "sequence_starts": other.sequence_starts_S1[1:] + self._ends[TOKENS],
            "references": other.references,
        }
        for name, values in parts.items():
            self._files[name].write(values.data)
        self._ends = (other.starts_N1[-1] + self._ends).tolist()
        self._features += len(other)

    def close(self, meta: Mapping[str, Any]) -> None:
        """Write out what is buffered, and `meta` last."""
        for file in self._files.values():
            file.close()
        dtype = self._target_dtype or TARGET_TYPES[0]
        everything = {**meta, "target_dtype": dtype.str, "features": len(self)}
        everything["tokens"] = self._ends[TOKENS]
        text = json.dumps(everything, ensure_ascii=False, indent=1)
        (self._folder / META).write_text(text, encoding="utf-8")

    def abandon(self) -> None:
        """Close the files of a store that will not be finished."""
        for file in self._files.values():
            with suppress(OSError):  # what is buffered may find no room on the disk
                file.close()

    def __len__(self) -> int:
        return self._features

    def _target(self, values: Any) -> npt.NDArray[Any]:
        target = np.asarray(values)
        target = target.astype(TARGET_TYPES[target.dtype.kind == "f"]).reshape(-1)
        if len(target):
            self._check_target(target.dtype)
        return target

    def _check_target(self, dtype: np.dtype[Any]) -> None:
        self._target_dtype = self._target_dtype or dtype
        if dtype != self._target_dtype:
            raise MtlplugError(
                f"a feature has {dtype} targets after {self._target_dtype} ones; "
                "this is a fault of its task format"
            )


class FeatureStore:
    """The features of one split of one task, by memory map.

    Attributes:
        meta: counts of rows and of what was cut or dropped, and what the store was made from.
        words_W: the records of all features (`mtlplug.data.records`).
        starts_N1: where each feature starts in the records, and among all tokens, reads,
            sequences and bytes of references; last where the last one ends. Shape (N + 1, 5),
            columns `WORDS`, `TOKENS`, `READS`, `SEQUENCES`, `REFERENCES`.
        feature_sequences_N1: its column `SEQUENCES`.
        sequence_starts_S1: the first token of each sequence, and the end of the last.
        target_dtype: type of the targets.
        references: the gold of all features as bytes of JSON, end to end.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.meta: dict[str, Any] = json.loads((folder / META).read_text(encoding="utf-8"))
            self.words_W: Words = self._map("records", np.int32)
            self.starts_N1 = self._map("starts", np.int64).reshape(-1, 5)
            self.feature_sequences_N1 = self.starts_N1[:, SEQUENCES]
            self.sequence_starts_S1 = self._map("sequence_starts", np.int64)
            # By name: of a file from anywhere, no type may be made up (objects are pointers).
            self.target_dtype = {kind.str: kind for kind in TARGET_TYPES}[self.meta["target_dtype"]]
            self.references = self._map("references", np.uint8)
            self._check_sizes()
        except (OSError, ValueError, LookupError) as error:
            raise MtlplugError(
                f"stored features {folder} are damaged ({error}); remove the folder to have them "
                "made again"
            ) from None

    def _check_sizes(self) -> None:
        """Refuse files that do not fit together: after a power cut some may lack their end."""
        words, _, _, sequences, references = self.starts_N1[-1].tolist()
        wanted = (self.meta["features"], words, sequences, references)
        parts = (self.starts_N1[1:], self.words_W, self.sequence_starts_S1[1:], self.references)
        if wanted != (found := tuple(len(part) for part in parts)):
            raise ValueError(f"they have {found} parts, not {wanted}")

    def __len__(self) -> int:
        return len(self.starts_N1) - 1

    @property
    def has_targets(self) -> bool:
        """Whether any feature has one: of none the type is not known."""
        words, tokens, reads, sequences, _ = self.starts_N1[-1].tolist()
        return bool(words > HEADER * len(self) + tokens + reads + sequences)

    @property
    def lengths_N(self) -> npt.NDArray[np.int64]:
        """Tokens of each feature; counted anew at each call, so that no memory is held."""
        return np.diff(self.starts_N1[:, TOKENS])

    @property
    def read_counts_N(self) -> npt.NDArray[np.int64]:
        """Rows that the head reads of each feature."""
        return np.diff(self.starts_N1[:, READS])

    @property
    def squares_N(self) -> npt.NDArray[np.int64]:
        """Squared lengths of the sequences of each feature, summed."""
        squares_S = np.square(np.diff(self.sequence_starts_S1))
        return np.add.reduceat(squares_S, self.feature_sequences_N1[:-1])

    def feature(self, number: int) -> Records:
        """One feature; a batch of them is taken apart at once by `Packer`."""
        first, end = self.starts_N1[number : number + 2, WORDS]
        return Records(self.words_W[first:end], np.zeros(1, np.int64))

    def ids(self) -> Iterator[Integers]:
        """The ids of all tokens, a piece at a time, so that memory does not grow with them."""
        for first in range(0, len(self), PIECE):
            starts_B = self.starts_N1[first : min(first + PIECE, len(self)), WORDS]
            yield Records(self.words_W, starts_B).tokens()[0]

    def target(self, number: int) -> npt.NDArray[Any]:
        """The target of a feature."""
        return self.feature(number).targets(np.zeros(1, np.int64), self.target_dtype)[0]

    def reference(self, number: int) -> Any:
        """The gold of a feature; None in a store written without references."""
        first, end = self.starts_N1[number : number + 2, REFERENCES].tolist()
        return json.loads(self.references[first:end].tobytes()) if end > first else None

    def _map(self, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        path = self.folder / f"{name}.bin"
        if path.stat().st_size == 0:  # an empty file cannot be mapped
            return np.empty(0, dtype)
        # A plain array over the map: slicing np.memmap objects is ten times slower.
        return np.asarray(np.memmap(path, dtype=dtype, mode="r"))


def _int64(*numbers: int) -> bytes:
    return array("q", numbers).tobytes()
