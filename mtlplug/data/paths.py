"""Paths that users write, and what lies there: files, folders, or what cannot be read."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from mtlplug.data.text import unreadable
from mtlplug.errors import MtlplugError

MOST_FILES = 10_000
"""Files of a folder after which it is taken to be no dataset."""


def local_path(text: str, where: str) -> Path:
    """The path that a text names, `~` replaced by a home folder.

    Raises:
        MtlplugError: it is empty, or no path can be: it holds NUL or a name of over 255 bytes, or
            begins with the home of somebody unknown.
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise MtlplugError(f"{where}: the home folder in path {text!r:.120} is unknown") from None
    if not text.strip() or "\0" in text or any(len(part.encode()) > 255 for part in path.parts):
        raise MtlplugError(
            f"{where}: path {text!r:.120} names no file: it is empty, holds NUL or is too long"
        )
    return path


def check_regular(path: Path) -> None:
    """Refuse what is no file to read to its end and again: a pipe or a device.

    Raises:
        MtlplugError: the path is there, but neither a file nor a folder.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise MtlplugError(f"{path} is a pipe or device; write what it gives to a file first")


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of the names and bytes of a folder's files."""
    check_regular(path)
    content = hashlib.sha256()
    try:
        for file in _files(path) if path.is_dir() else [path]:
            with file.open("rb") as binary:
                digest = hashlib.file_digest(binary, "sha256").digest()
            content.update(file.relative_to(path).as_posix().encode() + b"\0" + digest)
    except OSError as error:
        raise unreadable(path, error) from None
    return content.hexdigest()


def _files(folder: Path) -> list[Path]:
    """The files of a dataset's folder, sorted; of `/` or a home there would be no end of them."""
    files: list[Path] = []
    for place, _, names in os.walk(folder):
        files += [file for name in names if (file := Path(place, name)).is_file()]
        if len(files) > MOST_FILES:
            raise MtlplugError(
                f"folder {folder} holds more than {MOST_FILES:,} files; name the folder of one "
                "dataset, or a file"
            )
    return sorted(files)
