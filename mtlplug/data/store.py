"""Features as flat arrays on disk, read by memory map.

A folder holds one split of one task: token ids and types of all features end to end, the
positions their heads read, their targets and references, and where each feature starts.

Shapes: N features, S sequences, T tokens, R reads.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mtlplug.errors import MtlplugError
from mtlplug.formats import Feature

STORE_VERSION = 1
"""Raise it when the layout below changes, or how rows become features."""

META = "meta.json"


class FeatureWriter:
    """Appends features to a folder; memory does not grow with the number of tokens."""

    def __init__(self, folder: Path, *, references: bool) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._files: dict[str, IO[bytes]] = {
            name: (folder / f"{name}.bin").open("wb")
            for name in ("ids", "types", "reads", "targets", "references")
        }
        self._references = references
        # Ends rather than starts: one number per feature (or sequence) in each.
        self._ends = {
            name: array("q") for name in ("sequences", "tokens", "reads", "targets", "references")
        }
        self._sequence_ends = array("q")
        self._totals = dict.fromkeys(self._ends, 0)
        self._target_dtype: np.dtype[Any] | None = None

    def add(self, feature: Feature) -> None:
        """Append one feature.

        Raises:
            MtlplugError: its reads lie outside its tokens, or its target changes type.
        """
        ids = np.concatenate([sequence.ids for sequence in feature.sequences])
        types = np.concatenate([sequence.types for sequence in feature.sequences])
        reads = np.asarray(feature.reads, dtype=np.int32)
        if reads.ndim != 1 or (len(reads) and (reads.min() < 0 or reads.max() >= len(ids))):
            raise MtlplugError(
                f"feature {len(self)} reads positions outside its {len(ids)} tokens; "
                "this is a fault of its task format"
            )
        target = self._target(feature.target)
        blob = b""
        if self._references:
            blob = json.dumps(feature.reference, ensure_ascii=False).encode()
        arrays = {"ids": ids, "types": types, "reads": reads, "targets": target}
        for name, values in arrays.items():
            self._files[name].write(values.tobytes())
        self._files["references"].write(blob)
        tokens = self._totals["tokens"]
        for sequence in feature.sequences:
            tokens += len(sequence)
            self._sequence_ends.append(tokens)
        added = (len(feature.sequences), len(ids), len(reads), len(target), len(blob))
        for name, number in zip(self._ends, added, strict=True):
            self._totals[name] += number
            self._ends[name].append(self._totals[name])

    def close(self, meta: Mapping[str, Any]) -> None:
        """Write what is left: where features start, and `meta` last."""
        for file in self._files.values():
            file.close()
        for name, ends in self._ends.items():
            _starts(ends).tofile(self._folder / f"{name}_starts.bin")
        _starts(self._sequence_ends).tofile(self._folder / "sequence_starts.bin")
        dtype = self._target_dtype or np.dtype(np.int64)
        everything = {**meta, "target_dtype": dtype.str, "features": len(self)}
        everything["tokens"] = self._totals["tokens"]
        text = json.dumps(everything, ensure_ascii=False, indent=1)
        (self._folder / META).write_text(text, encoding="utf-8")

    def __len__(self) -> int:
        return len(self._ends["tokens"])

    def _target(self, values: Any) -> npt.NDArray[Any]:
        target = np.asarray(values)
        wide: type[np.generic] = np.float32 if target.dtype.kind == "f" else np.int64
        target = target.astype(wide).reshape(-1)
        if self._target_dtype is None and len(target):
            self._target_dtype = target.dtype
        if len(target) and target.dtype != self._target_dtype:
            raise MtlplugError(
                f"feature {len(self)} has {target.dtype} targets after {self._target_dtype} ones; "
                "this is a fault of its task format"
            )
        return target


class FeatureStore:
    """The features of one split of one task, by memory map.

    Attributes:
        meta: counts of rows and of what was cut or dropped, and what the store was made from.
        lengths_N: tokens of each feature.
        read_counts_N: rows its head reads of each feature.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta: dict[str, Any] = json.loads((folder / META).read_text(encoding="utf-8"))
        self.ids_T = self._map("ids", np.uint32)
        self.types_T = self._map("types", np.uint8)
        self.reads_R = self._map("reads", np.int32)
        self.targets = self._map("targets", np.dtype(self.meta["target_dtype"]))
        self._references = self._map("references", np.uint8)
        self.token_starts_N1 = self._map("tokens_starts", np.int64)
        self.read_starts_N1 = self._map("reads_starts", np.int64)
        self.target_starts_N1 = self._map("targets_starts", np.int64)
        self.sequence_starts_S1 = self._map("sequence_starts", np.int64)
        self.feature_sequences_N1 = self._map("sequences_starts", np.int64)
        self._reference_starts_N1 = self._map("references_starts", np.int64)
        self.lengths_N = np.diff(self.token_starts_N1)
        self.read_counts_N = np.diff(self.read_starts_N1)

    def __len__(self) -> int:
        return len(self.lengths_N)

    def ids(self, feature: int) -> npt.NDArray[np.uint32]:
        """Token ids of a feature, its sequences end to end."""
        return self.ids_T[self.token_starts_N1[feature] : self.token_starts_N1[feature + 1]]

    def types(self, feature: int) -> npt.NDArray[np.uint8]:
        """Token type ids of a feature, its sequences end to end."""
        return self.types_T[self.token_starts_N1[feature] : self.token_starts_N1[feature + 1]]

    def reads(self, feature: int) -> npt.NDArray[np.int32]:
        """The positions its head reads, counted from the feature's first token."""
        return self.reads_R[self.read_starts_N1[feature] : self.read_starts_N1[feature + 1]]

    def target(self, feature: int) -> npt.NDArray[Any]:
        """The target of a feature."""
        return self.targets[self.target_starts_N1[feature] : self.target_starts_N1[feature + 1]]

    def sequence_lengths(self, feature: int) -> npt.NDArray[np.int64]:
        """Tokens of each sequence of a feature."""
        first, end = self.feature_sequences_N1[feature : feature + 2]
        return np.diff(self.sequence_starts_S1[first : end + 1])

    def reference(self, feature: int) -> Any:
        """The gold of a feature; None in a store written without references."""
        first, end = self._reference_starts_N1[feature : feature + 2]
        return json.loads(self._references[first:end].tobytes()) if end > first else None

    def _map(self, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        path = self.folder / f"{name}.bin"
        if path.stat().st_size == 0:  # an empty file cannot be mapped
            return np.empty(0, dtype)
        # A plain array over the map: slicing np.memmap objects is ten times slower.
        return np.asarray(np.memmap(path, dtype=dtype, mode="r"))


def _starts(ends: array[int]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.frombuffer(ends, dtype=np.int64)]).astype(np.int64)
