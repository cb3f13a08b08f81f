"""Sources: what cannot be read, limits, and what a fingerprint follows."""

from __future__ import annotations

import gzip
from itertools import islice
from pathlib import Path

import pytest
from file_helpers import fault, rows, write

from mtlplug.data.sources import Source
from mtlplug.errors import MtlplugError

# ---- files that cannot be read ----


def test_missing_file(tmp_path: Path) -> None:
    """The remedy for a missing file is --data, for rows and fingerprint alike."""
    for name in ("a.conll", "a.tsv.gz", "a.json", "a.parquet", "a"):
        path = tmp_path / name
        assert fault(path).startswith(f"file {path} does not exist; check its path")
        with pytest.raises(MtlplugError, match="--data"):
            Source(path=path).fingerprint()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.conll", "\n \n"),
        ("a.tsv", ""),
        ("a.tsv", "text\tlabel\n"),
        ("a.csv", "text,label\n"),
        ("a.jsonl", "\n"),
        ("a.json", ""),
        ("a.json", '{"data": []}'),
        ("a.tsv.gz", ""),
    ],
)
def test_empty_file(tmp_path: Path, name: str, text: str) -> None:
    """A file without rows is an error."""
    path = write(tmp_path / name, text)
    assert f"{path} has no rows; copy it again" in fault(path)


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz", "a.csv"])
def test_wrong_encoding(tmp_path: Path, name: str) -> None:
    """The line that is not in the encoding is named; with the right one the file reads."""
    text = "text\n" + "plain\n" * 3000 + "na\xefve\n"
    path = write(tmp_path / name, text.encode("cp1252"))
    assert f"{path}, line 3002 is not utf-8; say what it is, in the suite" in fault(path)
    assert 'encoding = "cp1252"' in fault(path)
    assert rows(path, encoding="cp1252")[-1] == {"text": "na\xefve"}
    assert "unknown encoding 'cp12'" in fault(path, encoding="cp12")


def test_utf16(tmp_path: Path) -> None:
    """UTF-16 reads when it is named, and is refused with that remedy when it is not."""
    path = write(tmp_path / "a.tsv", "text\nä\n".encode("utf-16"))
    assert rows(path, encoding="utf-16") == [{"text": "ä"}]
    assert "line 1 is not utf-8" in fault(path)
    assert 'encoding = "utf-16"' in fault(path)
    bare = write(tmp_path / "b.tsv", "text\na\n".encode("utf-16-le"))
    assert "line 1 holds a NUL byte" in fault(bare)


def test_damaged_gzip(tmp_path: Path) -> None:
    """Cut-off, altered and uncompressed .gz files are told apart from good ones."""
    good = gzip.compress(b"text\n" + b"".join(b"row %d\n" % n for n in range(20_000)))
    path = tmp_path / "a.tsv.gz"
    for content in (good[: len(good) // 2], good[:-1], good[:-8] + bytes(8), b"<html>", good[:1]):
        path.write_bytes(content)
        assert f"{path} is no whole gzip file" in fault(path)
    path.write_bytes(good)
    assert len(rows(path)) == 20_000


def test_unknown_names(tmp_path: Path) -> None:
    """Unknown readers and endings list the known ones."""
    path = write(tmp_path / "a.txt", "a O\n")
    assert "set reader in the suite to one of conll, tsv" in fault(path)
    assert rows(path, reader="conll") == [{"tokens": ["a"], "tags": ["O"]}]
    with pytest.raises(MtlplugError, match="unknown reader 'xml'; known: conll"):
        Source(path=path, reader="xml")
    with pytest.raises(MtlplugError, match="unknown quoting"):
        Source(path=path, quoting="some")
    with pytest.raises(MtlplugError, match="more than one character"):
        Source(path=path, separator="||")
    with pytest.raises(MtlplugError, match="either a path or a dataset"):
        Source()


def test_folder_for_a_file(tmp_path: Path) -> None:
    """A folder where a file should be is an error."""
    assert "is no file, which reader 'tsv' needs" in fault(tmp_path, reader="tsv")


# ---- streaming and fingerprint ----


def test_rows_stream(tmp_path: Path) -> None:
    """Rows come as they are read: what is broken further down is not met before."""
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n{"a": 2}\nbroken\n')
    assert [row["a"] for row in islice(Source(path=path).rows(), 2)] == [1, 2]
    with pytest.raises(MtlplugError, match="line 3"):
        list(Source(path=path).rows())


def test_fingerprint(tmp_path: Path) -> None:
    """It follows the bytes and the settings, not the place of the file."""
    path = write(tmp_path / "a.tsv", "a\tb\n1\t2\n")
    moved = write(tmp_path / "b.tsv", "a\tb\n1\t2\n")
    first = Source(path=path).fingerprint()
    assert first == Source(path=path).fingerprint() == Source(path=moved).fingerprint()
    others = [
        Source(path=path, columns={"text": "a"}).fingerprint(),
        Source(path=path, columns={"text": ["a", "b"]}).fingerprint(),
        Source(path=path, header=False).fingerprint(),
        Source(path=path, quoting="standard").fingerprint(),
        Source(path=path, encoding="latin-1").fingerprint(),
        Source(path=write(tmp_path / "c.tsv", "a\tb\n1\t3\n")).fingerprint(),
    ]
    assert len({first, *others}) == 7
