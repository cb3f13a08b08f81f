"""Where the rows of a split come from: a local file or a Hugging Face dataset.

`Source.rows` streams canonical rows, the columns a format asks for, whatever the file calls
them. Rows come as they are: a format repairs, drops and counts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtlplug.data.hub import load, read_hub, read_parquet
from mtlplug.data.parts import Part
from mtlplug.data.paths import check_regular, content_hash
from mtlplug.data.questions import read_mrqa, read_squad
from mtlplug.data.readers import ENDINGS, READERS, Column, Record
from mtlplug.data.shapes import read_mrqa_table, read_qed
from mtlplug.data.text import unreadable
from mtlplug.errors import MtlplugError, unknown
from mtlplug.formats import Row

ALL_READERS = {
    **READERS,
    "mrqa": read_mrqa,
    "squad": read_squad,
    "qed": read_qed,
    "parquet": read_parquet,
    "hub": read_hub,
    "hub_mrqa": read_mrqa_table,
}
READERS_VERSION = 2
"""Raise it when a reader yields other rows, so that stored features are built anew."""

CONLL_COLUMNS: Mapping[str, Column] = {"tokens": 0, "tags": -1}
COMMIT = re.compile("[0-9a-f]{40}")
SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Source:
    """Where the rows of one split come from, and how they are read.

    Attributes:
        path: a local file, or a folder that `datasets` can load; or
        dataset: id of a Hugging Face dataset.
        reader: conll, mrqa, squad, qed, tsv, csv, jsonl, parquet, hub or hub_mrqa; empty for
            what the file's name ends in (`.gz` aside).
        columns: for each canonical column the file's own, by name (`"passage.text"` reaches into
            objects) or by number (negative ones count from the end); several are joined with a
            blank. Empty for all columns under their own names, in CoNLL files for tokens in the
            first and tags in the last column.
        header: whether the first line of a TSV or CSV file names its columns.
        quoting: "none" (quotes are plain characters, as in GLUE; default of TSV) or "standard"
            (default of CSV).
        encoding: of a text file, as Python names it.
        separator: between fields; empty for a tab (TSV), a comma (CSV), tab or blanks (CoNLL).
        comment: lines of a CoNLL file that begin with it are passed over ("#" in CoNLL-U); empty
            for none, because a token may be any text.
        revision: of a dataset on the hub, best a full commit id.
        data_dir: folder inside the dataset.
        config: configuration of the dataset.
        split: of the dataset.
        only: values that columns of the file must have; other rows are passed over.
        part: a share of the rows, for example "first 4/5 by context" (`mtlplug.data.parts`).
        url: where `mtlplug data fetch` gets the file `path` from.
        sha256: of that file, in hexadecimal digits.
        streaming: read a dataset of the hub over the network without keeping it.
    """

    path: Path | None = None
    dataset: str | None = None
    reader: str = ""
    columns: Mapping[str, Column | Sequence[Column]] = field(default_factory=dict)
    header: bool = True
    quoting: str = ""
    encoding: str = "utf-8"
    separator: str = ""
    comment: str = ""
    revision: str | None = None
    data_dir: str | None = None
    config: str | None = None
    split: str | None = None
    only: Mapping[str, Any] = field(default_factory=dict)
    part: str = ""
    url: str | None = None
    sha256: str = ""
    streaming: bool = False

    def __post_init__(self) -> None:
        if (self.path is None) == (self.dataset is None):
            raise MtlplugError(
                f"a source is either a path or a dataset, not {self.path} and {self.dataset}"
            )
        if self.quoting not in ("", "none", "standard"):
            raise unknown("quoting", self.quoting, ["none", "standard"])
        if self.reader and self.reader not in ALL_READERS:
            raise unknown("reader", self.reader, ALL_READERS)
        if len(self.separator) > 1:
            raise MtlplugError(f"separator {self.separator!r} is more than one character")
        if self.part:
            Part.parse(self.part)
        if self.sha256 and not SHA256.fullmatch(self.sha256):
            raise MtlplugError(f"sha256 is '{self.sha256}'; it must be 64 digits 0-9 and a-f")

    @property
    def kind(self) -> str:
        """Name of the reader.

        Raises:
            MtlplugError: the file's name does not tell, and `reader` is not set.
        """
        if self.reader:
            return self.reader
        if self.path is None or self.path.is_dir():
            return "hub"
        name = self.path.name.removesuffix(".gz")
        if (ending := Path(name).suffix.lower()) not in ENDINGS:
            if not self.path.exists():
                raise unreadable(self.path, FileNotFoundError())
            raise MtlplugError(
                f"the name of {self.path} does not tell how to read it; set reader in the suite "
                f"to one of {', '.join(ALL_READERS)}"
            )
        return ENDINGS[ending]

    @property
    def file(self) -> Path:
        """The local file.

        Raises:
            MtlplugError: the source is no single file.
        """
        if self.path is None or self.path.is_dir():
            raise MtlplugError(f"{self.place} is no file, which reader '{self.kind}' needs")
        check_regular(self.path)
        return self.path

    @property
    def place(self) -> str:
        """What messages call the source."""
        hub = self.dataset or self.kind in ("hub", "hub_mrqa")
        split = f", split {self.split or 'train'}" if hub else ""
        return f"{self.path or self.dataset}{split}"

    @property
    def mapping(self) -> Mapping[str, Column | Sequence[Column]]:
        """`columns`, or the reader's default."""
        return self.columns or (CONLL_COLUMNS if self.kind == "conll" else {})

    def rows(self) -> Iterator[Row]:
        """Stream the rows in the file's order.

        A column that a later row lacks is None there; it must be in the first row.

        Raises:
            MtlplugError: the source cannot be read, is malformed, empty or lacks a column.
        """
        keys: dict[str, list[Column]] | None = None
        for values, where in self._records():
            if keys is None:
                keys = {
                    name: [_key(values, column, where) for column in _several(columns)]
                    for name, columns in self.mapping.items()
                }
            picked = {name: _joined(values, columns) for name, columns in keys.items()}
            yield Row(picked or {str(name): value for name, value in values.items()}, where)
        if keys is None:
            chosen = " of the chosen ones" if self.only or self.part else ""
            raise MtlplugError(
                f"{self.place} has no rows{chosen}; copy it again, or name another file in the "
                "suite"
            )

    def _records(self) -> Iterator[Record]:
        """The reader's records that `only` and `part` choose."""
        self._check_downloaded()
        if not self.part:
            yield from self._only()
            return
        part = Part.parse(self.part)
        column: list[Column] = []  # the first record tells

        def key(values: Mapping[Any, Any], where: str) -> bytes:
            if part.column is None:
                return part.key(values, None)
            if not column:
                column.append(_key(values, part.column, where))
            return part.key(values, _value(values, column[0]))

        chosen = part.keys(key(values, where) for values, where in self._only())
        yield from (record for record in self._only() if key(*record) in chosen)

    def _only(self) -> Iterator[Record]:
        """The reader's records that have the values of `only`."""
        records = ALL_READERS[self.kind](self)
        if not self.only:
            yield from records
            return
        keys: dict[Any, Column] = {}
        for values, where in records:
            keys = keys or {column: _key(values, column, where) for column in self.only}
            if all(_value(values, keys[column]) == value for column, value in self.only.items()):
                yield values, where

    def _check_downloaded(self) -> None:
        if self.url is not None and self.path is not None and not self.path.exists():
            raise MtlplugError(
                f"{self.url} is not downloaded yet; run 'mtlplug data fetch' with the suite"
            )

    def fingerprint(self) -> str:
        """A hash of the bytes and of every setting that decides which rows come out.

        A dataset of the hub counts by its full commit id, else by the version now loaded.

        Raises:
            MtlplugError: the source cannot be read.
        """
        settings = [READERS_VERSION, self.kind, dict(self.mapping), self.header, self.quoting]
        settings += [self.encoding, self.separator]
        settings += [self.revision, self.data_dir, self.config, self.split]
        if self.only or self.part:
            settings += [dict(self.only), self.part]
        if self.comment:
            settings += [self.comment]
        self._check_downloaded()
        if self.path is not None:
            content = content_hash(self.path)
        elif COMMIT.fullmatch(self.revision or ""):
            content = str(self.dataset)
        else:
            content = f"{self.dataset} {getattr(load(self), '_fingerprint', '')}"
        text = json.dumps([content, settings], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def _several(columns: Column | Sequence[Column]) -> list[Column]:
    return [columns] if isinstance(columns, int | str) else list(columns)


def _key(values: Mapping[Any, Any], column: Column, where: str) -> Column:
    """The key of a record for a column that the user named or numbered."""
    names = list(values)
    if isinstance(column, int) and column not in values and -len(names) <= column < len(names):
        key: Column = names[column]
        return key
    try:
        _reach(values, column)
    except (LookupError, TypeError):
        known = ", ".join(str(name) for name in names)
        raise MtlplugError(
            f"{where} has no column '{column}'; it has: {known}; set columns in the suite"
        ) from None
    return column


def _joined(values: Mapping[Any, Any], keys: list[Column]) -> Any:
    """The value of one column, or the text of several; None where all are absent."""
    parts = [_value(values, key) for key in keys]
    if len(parts) == 1:
        return parts[0]
    present = [str(part) for part in parts if part is not None]
    return " ".join(present) if present else None


def _value(values: Mapping[Any, Any], key: Column) -> Any:
    try:
        return _reach(values, key)
    except (LookupError, TypeError):
        return None


def _reach(values: Mapping[Any, Any], key: Column) -> Any:
    """The value under a key or a dotted path into objects."""
    if key in values or isinstance(key, int):
        return values[key]
    value: Any = values
    for part in key.split("."):
        value = value[part]
    return value
