"""Files from the web: whole and checked, or not at all.

A download grows in a `.part` file beside its place and is renamed when it is complete and its
checksum fits. What was cut off goes on where it stopped, where the server can do that.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import socket
import ssl
import time
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from mtlplug.errors import MtlplugError, unknown

SCHEMES = ("file", "http", "https")
ATTEMPTS = 5
"""Tries in a row that bring no new byte, after which a download is given up."""

PAUSE = 1.0
"""Seconds before the second such try; each further pause is twice as long."""

TIMEOUT = 60.0
"""Seconds without a byte after which a connection counts as dropped."""

CHUNK = 1 << 20
DROPPED = (URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
STRANGE = re.compile(r"[^\w .+-]")
"""Characters of a url that no file name gets: slashes, NUL, line breaks."""

LONGEST = 100
"""Characters that a file name takes over from a url: its last ones, which tell how to read it."""


class UnreachableError(MtlplugError):
    """There is no way to a server, or it is forbidden, and what is wanted is not here."""


def downloads_folder() -> Path:
    """Where fetched files are kept: `$MTLPLUG_DOWNLOADS`, else `downloads` in the cache folder."""
    if folder := os.environ.get("MTLPLUG_DOWNLOADS"):
        return Path(folder).expanduser()
    if folder := os.environ.get("MTLPLUG_CACHE"):
        return Path(folder).expanduser() / "downloads"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "mtlplug" / "downloads"


def download_name(url: str) -> str:
    """The file name of a url's download: the url's own, behind a hash of the whole url.

    >>> download_name("https://example.org/data/train.tsv.gz")
    '1577d759be80-train.tsv.gz'
    """
    name = unquote(urlsplit(url).path).rsplit("/", 1)[-1] or "file"
    name = STRANGE.sub("_", name)[-LONGEST:]
    return f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"


def offline() -> bool:
    """Whether the environment forbids the network, as Hugging Face's libraries read it."""
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in OFFLINE)


def fetch(url: str, target: Path, sha256: str = "") -> bool:
    """Download a file unless it is there; a second process waits for the one that does it.

    Args:
        url: http, https or file.
        target: the file to write. Its folder is made.
        sha256: what the file must have, in hexadecimal digits; empty for no check. Without it a
            part that an earlier process left is not gone on with, as the file may have changed.

    Returns:
        Whether anything was downloaded.

    Raises:
        UnreachableError: there is no network, or it is forbidden.
        MtlplugError: the connection fails, the server refuses, the file is not the
            one expected, or the folder cannot be written.
    """
    if (scheme := urlsplit(url).scheme) not in SCHEMES:
        raise unknown(f"kind of url in {url}:", scheme, SCHEMES)
    if target.exists():
        return False
    if offline() and scheme != "file":
        raise UnreachableError(
            f"{url} is not downloaded and {OFFLINE[0]} forbids the network; unset it"
        )
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{target.name}.lock")):
            if target.exists():
                return False
            if not sha256:
                part.unlink(missing_ok=True)
            _download(url, part)
            _check(url, part, sha256)
            part.replace(target)
    except OSError as error:
        raise MtlplugError(
            f"{target} cannot be written ({error.strerror or error}); make room, or choose "
            "another folder with --to"
        ) from None
    return True


def _download(url: str, part: Path) -> None:
    """Fill `part`; tries that bring something are not counted."""
    failures, tag = 0, ""
    while True:
        before = _size(part)
        try:
            tag = _append(url, part, tag)
            return
        except HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise MtlplugError(
                    f"{url} is refused ({error.code} {error.reason}); it may have moved: name "
                    "another url or a local file in the suite"
                ) from None
            reason: BaseException = error
        except DROPPED as error:
            if isinstance(getattr(error, "reason", None), FileNotFoundError):
                raise MtlplugError(f"{url} does not exist; name another in the suite") from None
            reason = error
            cause = getattr(error, "reason", None)
            if not _size(part) and _is_nowhere(cause):
                raise UnreachableError(f"{url} cannot be reached ({cause})") from None
        failures = 1 if _size(part) > before else failures + 1
        if failures >= ATTEMPTS:
            raise MtlplugError(
                f"{url} cannot be reached ({reason}); {_size(part):,} bytes are kept, fetch "
                "again to go on"
            ) from None
        time.sleep(PAUSE * 2 ** (failures - 1))


def _is_nowhere(reason: Any) -> bool:
    """Whether a connection failed as it does without a network: trying again helps nothing."""
    return isinstance(reason, socket.gaierror) or (
        isinstance(reason, OSError) and reason.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)
    )


def _append(url: str, part: Path, tag: str) -> str:
    """Get what `part` lacks; returns the tag of the file's version where the server gives one.

    Raises:
        OSError: the connection failed, or ended before the file did.
    """
    start = _size(part)
    headers = {"User-Agent": "mtlplug"}
    if start:
        headers["Range"] = f"bytes={start}-"
        # A server whose file is another one by now then sends it from its first byte.
        headers |= {"If-Range": tag} if tag else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range", "") == f"bytes */{start}":
            return tag  # nothing is missing
        part.unlink()
        raise ConnectionError("the part is longer than the file") from None
    with response:
        going_on = _starts_at(response.headers, start) if response.status == 206 else False
        length = response.headers.get("Content-Length")
        with part.open("ab" if going_on else "wb") as file:
            _copy(response, file)
        wanted = (start if going_on else 0) + int(length) if length else None
        if wanted is not None and _size(part) < wanted:
            raise ConnectionError(f"connection lost after {_size(part):,} of {wanted:,} bytes")
        return _strong(response.headers.get("ETag", ""))


def _starts_at(headers: Mapping[str, Any], start: int) -> bool:
    if str(headers.get("Content-Range", "")).startswith(f"bytes {start}-"):
        return True
    raise ConnectionError(f"asked for the bytes from {start} on, the server sent others")


def _copy(response: Any, file: IO[bytes]) -> None:
    while chunk := response.read1(CHUNK) if hasattr(response, "read1") else response.read(CHUNK):
        file.write(chunk)
    file.flush()
    os.fsync(file.fileno())


def _strong(tag: str) -> str:
    """An entity tag that stands for equal bytes; weak ones do not."""
    return "" if tag.startswith("W/") else tag


def _check(url: str, part: Path, sha256: str) -> None:
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 and found != sha256:
        part.unlink()
        raise MtlplugError(
            f"{url} is another file than the suite means: its SHA-256 is {found}, not {sha256}; "
            "fetch it again, and if that does not help name another url or a local file"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
