"""Parquet files and datasets: class labels by name, and one sentence for what does not load."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from file_helpers import fault, rows, write

from mtlplug.data.sources import Source
from mtlplug.errors import MtlplugError


def table() -> datasets.Dataset:
    """A small dataset with class labels, one row of it unlabelled."""
    features = datasets.Features(
        {
            "words": datasets.Sequence(datasets.Value("string")),
            "ner": datasets.Sequence(datasets.ClassLabel(names=["O", "B-X"])),
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "meta": {"text": datasets.Value("string")},
        }
    )
    values = {
        "words": [["a", "b"], ["c"]],
        "ner": [[0, 1], [1]],
        "label": [1, -1],
        "meta": [{"text": "x"}, {"text": "y"}],
    }
    return datasets.Dataset.from_dict(values, features=features)


COLUMNS = {"tokens": "words", "tags": "ner", "label": "label", "text": "meta.text"}
ROWS = [
    {"tokens": ["a", "b"], "tags": ["O", "B-X"], "label": "yes", "text": "x"},
    {"tokens": ["c"], "tags": ["B-X"], "label": None, "text": "y"},
]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps what `datasets` stores inside the test's folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def test_parquet(tmp_path: Path) -> None:
    """Class labels of a parquet file come as names, -1 as no label."""
    path = tmp_path / "a.parquet"
    table().to_parquet(path)
    assert rows(path, columns=COLUMNS) == ROWS
    assert next(Source(path=path).rows()).where == f"{path}, row 1"


def test_plain_parquet(tmp_path: Path) -> None:
    """A parquet file that `datasets` did not write works as well."""
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["a", None], "label": [0, 1]}), path)
    assert rows(path) == [{"text": "a", "label": 0}, {"text": None, "label": 1}]


def test_bad_parquet(tmp_path: Path) -> None:
    """A file that is no parquet, or cut off, is an error that names it."""
    path = tmp_path / "a.parquet"
    table().to_parquet(path)
    write(path, path.read_bytes()[:-20])
    assert f"{path} cannot be read as parquet" in fault(path)


@pytest.mark.usefixtures("own_cache")
def test_dataset_folder(tmp_path: Path) -> None:
    """A folder of data files is loaded as `datasets` does it, split by split."""
    folder = tmp_path / "set"
    folder.mkdir()
    table().to_parquet(folder / "train.parquet")
    table().select([1]).to_parquet(folder / "validation.parquet")
    assert rows(folder, columns=COLUMNS) == ROWS
    assert rows(folder, columns=COLUMNS, split="validation") == ROWS[1:]
    by_id = Source(dataset=str(folder), columns=COLUMNS, split="validation")
    assert [dict(row) for row in by_id.rows()] == ROWS[1:]
    assert next(by_id.rows()).where == f"{folder}, split validation, row 1"
    message = fault(folder, split="dev")
    assert f"dataset {folder}, split dev cannot be loaded" in message
    assert "\n" not in message


def test_saved_dataset(tmp_path: Path) -> None:
    """Folders that `save_to_disk` wrote load too."""
    table().save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": table(), "test": table().select([1])}).save_to_disk(
        tmp_path / "two"
    )
    assert rows(tmp_path / "one", columns=COLUMNS) == ROWS
    assert rows(tmp_path / "two", columns=COLUMNS, split="test") == ROWS[1:]


@pytest.mark.usefixtures("own_cache")
def test_dataset_out_of_reach() -> None:
    """A dataset that cannot be reached ends in one sentence with a remedy."""
    with pytest.raises(MtlplugError, match="dataset nobody/nothing, split train cannot be loaded"):
        list(Source(dataset="nobody/nothing").rows())


def test_fingerprint_of_datasets(tmp_path: Path) -> None:
    """A full commit id needs no loading; a folder counts by its files."""
    pinned = [
        Source(dataset="x/y", revision=digit * 40, split=split).fingerprint()
        for digit in "ab"
        for split in ("train", "test")
    ]
    assert len(set(pinned)) == 4
    table().save_to_disk(tmp_path / "one")
    before = Source(path=tmp_path / "one").fingerprint()
    write(tmp_path / "one" / "note", "new")
    assert Source(path=tmp_path / "one").fingerprint() != before
