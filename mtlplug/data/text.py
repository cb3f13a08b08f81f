"""Text and JSON out of files, plain or gzip; what is damaged ends in one sentence.

The files of a dataset are read line by line, so that an error names its line.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from mtlplug.errors import MtlplugError


def open_binary(path: Path) -> IO[bytes]:
    """The bytes of a file, decompressed where its name ends in `.gz`.

    Raises:
        MtlplugError: there is no such file, or it may not be read.
    """
    try:
        return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> MtlplugError:
    """The error for a file that is not there or cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return MtlplugError(
            f"file {path} does not exist; give the folder the suite's paths start from with --data"
        )
    return MtlplugError(f"file {path} cannot be read ({error.strerror or error})")


def lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    r"""Number and text of each line, without its end (`\n` or `\r\n`) and a byte order mark.

    Raises:
        MtlplugError: the encoding is wrong, the file is damaged or holds NUL bytes.
    """
    codec, number = _codec(encoding), 0
    try:
        with open_binary(path) as binary, io.TextIOWrapper(binary, codec, newline="\n") as text:
            for number, line in enumerate(text, 1):
                if "\0" in line:
                    raise MtlplugError(
                        f"{path}, line {number} holds a NUL byte; the file is damaged, binary or "
                        'in UTF-16 (then set encoding = "utf-16" in the suite)'
                    )
                yield number, line.rstrip("\r\n")
    except UnicodeError:
        raise MtlplugError(
            f"{path}, line {_undecodable_line(path, codec)} is not {encoding}; set the "
            'file\'s encoding in the suite, for example encoding = "cp1252"'
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        after = f" after line {number}" if number else ""
        raise MtlplugError(
            f"{path} is no whole gzip file{after} ({error}); copy it again, or rename it if it is "
            "not compressed"
        ) from None
    except OSError as error:
        raise unreadable(path, error) from None


def _codec(encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        raise MtlplugError(
            f"unknown encoding '{encoding}'; use a name Python knows, for example utf-8 or cp1252"
        ) from None
    return "utf-8-sig" if name == "utf-8" else name


def _undecodable_line(path: Path, codec: str) -> int:
    with open_binary(path) as binary:
        for number, line in enumerate(binary, 1):
            try:
                line.decode(codec)
            except UnicodeError:
                return number
    return 1


def parse_json(text: str, where: str) -> Any:
    """A JSON value.

    Raises:
        MtlplugError: the text is no JSON or is cut off; `where` is named.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise MtlplugError(
            f"{where} is bad JSON ({error.msg} at {line}character {error.colno}); mend it, copy "
            "the file again, or set another reader in the suite"
        ) from None
