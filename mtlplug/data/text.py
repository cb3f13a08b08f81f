"""Text and JSON out of files, plain or gzip; what is damaged ends in one sentence.

The files of a dataset are read line by line, so that an error names its line.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from mtlplug.errors import MtlplugError

STDIN = Path("-")
"""Stands for standard input."""


def open_binary(path: Path) -> IO[bytes]:
    """The bytes of a file, decompressed where its name ends in `.gz`, or of standard input.

    Raises:
        MtlplugError: there is no such file, or it may not be read.
    """
    if path == STDIN:
        return sys.stdin.buffer
    try:
        return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> MtlplugError:
    """The error for a file that is not there or cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return MtlplugError(
            f"file {path} does not exist; check its path (those of a suite start from its own "
            "folder, or from the one given with --data)"
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
            f"{path}, line {_undecodable_line(path, codec, number)} is not {encoding}; say "
            f'what it is, in the suite (encoding = "{_likely(path)}", perhaps) or with --encoding'
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        after = f" after line {number}" if number else ""
        raise MtlplugError(
            f"{path} is no whole gzip file{after} ({error}); copy it again, or rename it if it is "
            "not compressed"
        ) from None
    except OSError as error:
        raise unreadable(path, error) from None


def decoded(path: Path, encoding: str, size: int) -> Iterator[str]:
    """The text of a file in pieces of so many characters.

    Raises:
        MtlplugError: the encoding is wrong, or the file is damaged.
    """
    codec = _codec(encoding)
    try:
        with open_binary(path) as binary, io.TextIOWrapper(binary, codec) as text:
            while piece := text.read(size):
                yield piece
    except UnicodeError:
        raise MtlplugError(f"{path} is not {encoding}; give its encoding with --encoding") from None
    except (EOFError, zlib.error, OSError) as error:
        raise MtlplugError(f"{path} cannot be read ({error}); copy it again") from None


def _codec(encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
        io.TextIOWrapper(io.BytesIO(), name)  # refuses codecs that make no text, for example hex
    except (LookupError, ValueError):
        raise MtlplugError(
            f"unknown encoding {encoding!r}; use a name Python knows, for example utf-8 or cp1252"
        ) from None
    return "utf-8-sig" if name == "utf-8" else name


def _likely(path: Path) -> str:
    """The encoding of a file that is not what it was said to be."""
    if path == STDIN:
        return "cp1252"
    with open_binary(path) as binary:
        marked = binary.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return "utf-16" if marked else "cp1252"


def _undecodable_line(path: Path, codec: str, read: int) -> int:
    if path == STDIN:  # gone; the line is this one or a little further
        return read + 1
    number = 1
    # Reading ahead of the line, a damaged gzip file may end before it is found.
    with open_binary(path) as binary, suppress(OSError, EOFError, zlib.error, UnicodeError):
        for line in binary:
            line.decode(codec)
            number += 1
    return number


def parse_json(text: str, where: str) -> Any:
    """A JSON value.

    Raises:
        MtlplugError: the text is no JSON or is cut off, an object has a key twice, or a string
            holds half of a surrogate pair; `where` is named.
    """
    try:
        value = _DECODER.decode(text)
        if r"\ud" in text or r"\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except _TwiceError as error:
        raise MtlplugError(f"{where}: an object has the key '{error}' twice; remove one") from None
    except UnicodeEncodeError:
        raise MtlplugError(
            f"{where} holds half of a surrogate pair (\\ud800 to \\udfff), which is no character; "
            "mend it"
        ) from None
    except RecursionError:
        raise MtlplugError(f"{where} is nested too deeply; mend it") from None
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise MtlplugError(
            f"{where} is bad JSON ({error.msg} at {line}character {error.colno}); mend it, copy "
            "the file again, or name another kind of file (`reader` in the suite, --input)"
        ) from None
    except ValueError as error:  # a number of thousands of digits
        raise MtlplugError(f"{where} holds a number that is too long ({error}); mend it") from None


class _TwiceError(Exception):
    """A key that an object has twice: which of the two is meant cannot be told."""


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
