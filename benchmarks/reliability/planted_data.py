"""Datasets with code in them: files of every reader, and folders as `datasets` loads them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
from bombs import PAYLOADS, pickled, script, write, yaml_tag
from pyarrow import parquet

Maker = Callable[[Path, Path], object]
"""Makes a file or folder; takes its path and the marker."""

ROWS = b"sentence,kind\nw1,odd\nw2,even\n"


def a_file(payload: str) -> Maker:
    """A file that is a payload and nothing else."""
    return lambda path, marker: write(path, PAYLOADS[payload].make(marker))


def a_folder(name: str, payload: str) -> Maker:
    """A folder with one such file."""
    return lambda folder, marker: write(folder / name, PAYLOADS[payload].make(marker))


def pickled_column(path: Path, marker: Path) -> None:
    """A sound parquet file with a column of pickles."""
    blob = pa.array([pickled(marker)])
    parquet.write_table(pa.table({"sentence": ["w1"], "kind": ["odd"], "blob": blob}), path)


def arrow_extension(folder: Path, marker: Path) -> None:
    """An Arrow type that pyarrow before 14.0.1 unpickled (CVE-2023-47248)."""
    metadata = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickled(marker),
    }
    field = pa.field("sentence", pa.string(), metadata=metadata)
    table = pa.table([["w1"], ["odd"]], schema=pa.schema([field, pa.field("kind", pa.string())]))
    folder.mkdir()
    with pa.ipc.new_stream(str(folder / "train.arrow"), table.schema) as stream:
        stream.write_table(table)


def loading_script(folder: Path, marker: Path) -> None:
    """A dataset with Python beside its rows, under every name that was ever run."""
    for name in (f"{folder.name}.py", "__init__.py", "dataset.py", "setup.py", "conftest.py"):
        write(folder / name, script(marker))
    write(folder / "train.csv", ROWS)


def saved_to_disk(folder: Path, marker: Path) -> None:
    """What `save_to_disk` writes, with a pickle for its rows."""
    write(
        folder / "state.json",
        b'{"_data_files": [{"filename": "data.arrow"}], "_fingerprint": "x", '
        b'"_format_type": null, "_format_columns": null, "_format_kwargs": {}, '
        b'"_output_all_columns": false, "_split": "train"}',
    )
    write(folder / "dataset_info.json", b"{}")
    write(folder / "data.arrow", pickled(marker))


def tar_of_shards(folder: Path, marker: Path) -> None:
    """Members that readers of shards unpickle, and some whose names lead elsewhere."""
    wrappings = {"pyd": "pickle", "pickle": "pickle", "pth": "torch", "npy": "numpy"}
    members = {f"0.{end}": PAYLOADS[payload].make(marker) for end, payload in wrappings.items()}
    folder.mkdir()
    with tarfile.open(folder / "train.tar", "w") as archive:
        for name, data in {**members, f"{'../' * 12}{marker}": b"", str(marker): b""}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"1{kind.decode()}.txt")
            info.type, info.linkname = kind, str(marker)
            archive.addfile(info)


def zip_of_rows(folder: Path, marker: Path) -> None:
    """Rows, and members whose names lead elsewhere."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "train.zip", "w") as archive:
        archive.writestr("train.csv", ROWS)
        for name in (f"{'../' * 12}{marker}", str(marker), "x.pkl"):
            archive.writestr(name, pickled(marker))


def yaml_card(folder: Path, marker: Path) -> None:
    """A dataset card whose YAML makes objects."""
    write(folder / "train.csv", ROWS)
    write(folder / "README.md", f"---\n{yaml_tag(marker)}---\n".encode())


FILES: Mapping[str, Maker] = {
    "evil.jsonl": a_file("pickle"),
    "evil.csv": a_file("pickle"),
    "evil.jsonl.gz": a_file("pickle"),
    "evil.parquet": a_file("pickle"),
    "column.parquet": pickled_column,
}
FOLDERS: Mapping[str, Maker] = {
    "a loading script": loading_script,
    "a pickle": a_folder("train.pkl", "pickle"),
    "a pickle named jsonl": a_folder("train.jsonl", "pickle"),
    "a pickle named parquet": a_folder("train.parquet", "pickle"),
    "a type of Arrow": arrow_extension,
    "saved rows": saved_to_disk,
    "a tar of shards": tar_of_shards,
    "a zip": zip_of_rows,
    "a YAML card": yaml_card,
}
