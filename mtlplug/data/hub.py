"""Parquet files and Hugging Face datasets, with class labels as names instead of numbers.

`datasets` and `pyarrow` are imported where they are used: most runs read text files only.
"""

from __future__ import annotations

import os
import ssl
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

from mtlplug.data.fetching import UnreachableError, offline
from mtlplug.data.readers import Record
from mtlplug.data.text import unreadable
from mtlplug.errors import MtlplugError

if TYPE_CHECKING:
    from mtlplug.data.sources import Source

BATCH = 1024
"""Rows turned into Python objects at once."""

TIMEOUT = 10.0
"""Seconds that the hub has to answer."""

SAVED = ("state.json", "dataset_dict.json")
"""Files that tell a folder written by `save_to_disk`."""

PICKLED = "pandas"
"""The reader of `datasets` that unpickles its files: before version 5 it runs code in them."""


def leave_the_hub() -> None:
    """From now on look into the cache only: what could not be reached once takes long to fail."""
    import datasets
    import huggingface_hub.constants

    os.environ["HF_HUB_OFFLINE"] = "1"  # for what is imported or started later
    datasets.config.HF_HUB_OFFLINE = True
    huggingface_hub.constants.HF_HUB_OFFLINE = True


@lru_cache(maxsize=1)
def hub_answers() -> bool:
    """Whether the hub can be reached; asked once, where its library would try for half a minute."""
    from huggingface_hub.constants import ENDPOINT

    try:
        urllib.request.urlopen(urllib.request.Request(ENDPOINT, method="HEAD"), timeout=TIMEOUT)
    except HTTPError:  # an answer, too
        return True
    except (OSError, HTTPException) as error:
        # The hub's library has certificates of its own.
        return isinstance(getattr(error, "reason", None), ssl.SSLError)
    return True


def read_parquet(source: Source) -> Iterator[Record]:
    """One record per row of a parquet file, read batch by batch."""
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(source.file)
        features = _features(file.schema_arrow, source.file)
        batches = file.iter_batches(batch_size=BATCH)
        yield from _records(batches, features, source.place, source.only)
    except FileNotFoundError as error:
        raise unreadable(source.file, error) from None
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise MtlplugError(
            f"{source.file} cannot be read as parquet ({_first_line(error)}); copy it again, or "
            "set another reader in the suite"
        ) from None


def read_hub(source: Source, columns: Sequence[str] = ()) -> Iterator[Record]:
    """One record per row of a Hugging Face dataset: an id of the hub, or a local folder.

    A dataset's own code is never run: `datasets` 4 and later loads data files only.

    Args:
        source: the dataset. Rows that `source.only` rules out are not made Python objects.
        columns: those wanted, where the dataset has them all; empty for all.
    """
    dataset = load(source)
    if columns and set(columns) <= set(dataset.column_names or ()):
        dataset = dataset.select_columns(list(columns))
    batches = dataset.with_format("arrow").iter(batch_size=BATCH)
    yield from _records(batches, dataset.features or {}, source.place, source.only)


def _records(
    batches: Iterable[Any], features: Mapping[str, Any], place: str, only: Mapping[str, Any]
) -> Iterator[Record]:
    """Rows of arrow batches, with names in place of class-label numbers."""
    import pyarrow

    labels = {column: names for column, feature in features.items() if (names := _names(feature))}
    before = 0
    for batch in batches:
        chosen = _chosen(batch, {c: value for c, value in only.items() if c not in labels})
        rows = batch.take(pyarrow.array(chosen, pyarrow.int64()))  # of an empty list it is no type
        for number, row in zip(chosen, rows.to_pylist(), strict=True):
            where = f"{place}, row {before + number + 1}"
            for column, names in labels.items():
                row[column] = _label(row.get(column), names, f"{where}, column '{column}'")
            yield row, where
        before += batch.num_rows


def _chosen(batch: Any, only: Mapping[str, Any]) -> list[int]:
    """Numbers of the rows of a batch whose columns have these values."""
    numbers = list(range(batch.num_rows))
    for column in [column for column in only if column in batch.schema.names]:
        values = batch.column(column).to_pylist()
        numbers = [number for number in numbers if values[number] == only[column]]
    return numbers


def load(source: Source) -> Any:
    """The `datasets.Dataset` of one split.

    With `source.streaming` it is an `IterableDataset`, of which nothing is kept.

    Raises:
        UnreachableError: it is not in the cache and the hub cannot be reached.
        MtlplugError: it has no such configuration or split, or may hold code.
    """
    if source.dataset == PICKLED:
        raise MtlplugError(
            f"dataset '{PICKLED}' stands for pickled files, which may hold code; name files of "
            "another kind in the suite"
        )
    # Absolute: a folder called "csv" is not the reader of that name.
    name = str(source.path.absolute() if source.path else source.dataset)
    split = source.split or "train"
    return _load(name, source.config, source.revision, source.data_dir, split, source.streaming)


@lru_cache(maxsize=16)
def _load(
    name: str,
    config: str | None,
    revision: str | None,
    data_dir: str | None,
    split: str,
    streaming: bool,
) -> Any:
    import datasets

    if not (offline() or Path(name).exists() or hub_answers()):
        leave_the_hub()
    try:
        if any((Path(name) / file).exists() for file in SAVED):
            saved = datasets.load_from_disk(name)
            return saved[split] if isinstance(saved, datasets.DatasetDict) else saved
        return datasets.load_dataset(
            name,
            name=config,
            revision=revision,
            data_dir=data_dir,
            split=split,
            streaming=streaming,
            trust_remote_code=False,
        )
    except Exception as error:  # the loader raises dozens of types, of several packages
        kind = UnreachableError if _is_connection(error) else MtlplugError
        raise kind(
            f"dataset {name}, split {split} cannot be loaded ({type(error).__name__}: "
            f"{_first_line(error)}); check its name, config, revision and the network, or name a "
            "local file in the suite"
        ) from None


def _is_connection(error: BaseException | None) -> bool:
    """Whether the network is the cause, at the end of a chain of errors or on the way."""
    while error is not None:
        # httpx, aiohttp and the hub's library have types of their own.
        names = {kind.__name__ for kind in type(error).__mro__}
        if names & {"ConnectionError", "TimeoutError", "TransportError", "ClientConnectionError"}:
            return True
        error = error.__cause__ or error.__context__
    return False


def _features(schema: Any, path: Path) -> Mapping[str, Any]:
    """The `datasets` features a parquet schema carries, where it names class labels."""
    if doubles := [name for name, number in Counter(schema.names).items() if number > 1]:
        raise MtlplugError(f"{path} has several columns '{doubles[0]}'; rename all but one")
    if b"ClassLabel" not in (schema.metadata or {}).get(b"huggingface", b""):
        return {}
    import datasets

    try:
        features: Mapping[str, Any] = datasets.Features.from_arrow_schema(schema)
    except Exception as error:  # whatever somebody wrote into the file's metadata
        raise MtlplugError(
            f"{path} names its class labels in metadata that 'datasets' cannot read "
            f"({_first_line(error)}); write the file anew"
        ) from None
    return features


def _names(feature: Any) -> list[str] | None:
    """Names of a class label, also inside lists; None for other features."""
    while hasattr(feature, "feature"):
        feature = feature.feature
    return list(feature.names) if hasattr(feature, "int2str") else None


def _label(value: Any, names: list[str], where: str) -> Any:
    if isinstance(value, list):
        return [_label(item, names, where) for item in value]
    if value is None or value == -1:  # the hub's mark for a test row without a label
        return None
    if type(value) is not int or not 0 <= value < len(names):
        raise MtlplugError(
            f"{where}: class {value!r:.40} has no name; the names are 0 to {len(names) - 1}"
        )
    return names[value]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "no message")
