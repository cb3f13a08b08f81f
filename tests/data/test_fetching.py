"""Downloads: whole and checked or not at all, from servers that drop, refuse and restart."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mtlplug.data import fetching
from mtlplug.data.fetching import download_name, downloads_folder, fetch
from mtlplug.errors import MtlplugError
from mtlplug.workspace import cache_folder

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """A web server of one file, with faults.

    Attributes:
        drops: after how many bytes each of the next answers breaks off.
        ranges: whether it can go on in the middle of a file.
        status: what it answers instead, where that is not 0.
        pause: seconds before each answer.
        asked: the `Range` header of every request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.drops: list[int] = []
        self.ranges = True
        self.status = 0
        self.pause = 0.0
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"http://127.0.0.1:{self.server_address[1]}/rows.tsv"


class Handler(BaseHTTPRequestHandler):
    """Answers for `Server`."""

    server: Server

    def do_GET(self) -> None:
        """Send the file, or as much of it as the server's faults allow."""
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        time.sleep(self.server.pause)
        if self.server.status:
            self.send_error(self.server.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        start = start if self.server.ranges else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        length = self.server.drops.pop(0) if self.server.drops else len(CONTENT)
        self.wfile.write(CONTENT[start : start + length])

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running server, and an environment that allows to reach it."""
    for name in fetching.OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fetching, "PAUSE", 0.001)
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def test_a_whole_file(server: Server, tmp_path: Path) -> None:
    """The file is written once; a second call asks for nothing and no part is left."""
    target = tmp_path / "new" / "rows.tsv"
    assert fetch(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert not fetch(server.url, target, SHA256)
    assert server.asked == [None]
    assert not list(tmp_path.rglob("*.part"))


def test_dropped_connections(server: Server, tmp_path: Path) -> None:
    """What broke off goes on where it stopped, as often as it takes."""
    server.drops = [300_000, 1, 200_000, 400_000, 1, 1, 1]
    fetch(server.url, tmp_path / "rows.tsv", SHA256)
    assert (tmp_path / "rows.tsv").read_bytes() == CONTENT
    assert server.asked[:4] == [None, "bytes=300000-", "bytes=300001-", "bytes=500001-"]


def test_a_server_without_ranges(server: Server, tmp_path: Path) -> None:
    """A server that sends all again is taken at its word: no byte stands twice."""
    server.ranges, server.drops = False, [300_000]
    fetch(server.url, tmp_path / "rows.tsv", SHA256)
    assert (tmp_path / "rows.tsv").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]


def test_a_later_start(server: Server, tmp_path: Path) -> None:
    """A part that an earlier process left is gone on with, where a checksum vouches for it."""
    part = tmp_path / "rows.tsv.part"
    part.write_bytes(CONTENT[:5000])
    fetch(server.url, tmp_path / "rows.tsv", SHA256)
    part.write_bytes(b"another file's beginning")
    fetch(server.url, tmp_path / "rows.tsv.2")
    part.rename(tmp_path / "rows.tsv.3.part")
    fetch(server.url, tmp_path / "rows.tsv.3")
    assert server.asked == ["bytes=5000-", None, None]
    assert (tmp_path / "rows.tsv.3").read_bytes() == CONTENT


def test_a_part_that_is_complete(server: Server, tmp_path: Path) -> None:
    """A part that lacks only its renaming is not downloaded again; a longer one is."""
    part = tmp_path / "rows.tsv.part"
    part.write_bytes(CONTENT)
    fetch(server.url, tmp_path / "rows.tsv", SHA256)
    (tmp_path / "rows.tsv").unlink()
    part.write_bytes(CONTENT + b"x")
    fetch(server.url, tmp_path / "rows.tsv", SHA256)
    assert server.asked == [f"bytes={len(CONTENT)}-", f"bytes={len(CONTENT) + 1}-", None]
    assert (tmp_path / "rows.tsv").read_bytes() == CONTENT


def test_a_wrong_checksum(server: Server, tmp_path: Path) -> None:
    """Another file than expected is thrown away, and both checksums are said."""
    with pytest.raises(MtlplugError, match=f"SHA-256 is {SHA256}, not {'0' * 64}"):
        fetch(server.url, tmp_path / "rows.tsv", "0" * 64)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_a_server_that_gives_nothing(server: Server, tmp_path: Path) -> None:
    """A refusal ends at once; a server in trouble is tried again, then named."""
    server.status = 404
    with pytest.raises(MtlplugError, match=r"is refused \(404"):
        fetch(server.url, tmp_path / "rows.tsv")
    assert len(server.asked) == 1
    server.status = 503
    with pytest.raises(MtlplugError, match=r"cannot be reached .*503.*fetch again to go on"):
        fetch(server.url, tmp_path / "rows.tsv")
    assert len(server.asked) == 1 + fetching.ATTEMPTS
    assert not (tmp_path / "rows.tsv").exists()


def test_two_at_once(server: Server, tmp_path: Path) -> None:
    """Of two that start together one downloads, the other waits and finds the file."""
    server.pause = 0.2
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(fetch, server.url, tmp_path / "rows.tsv", SHA256) for _ in range(2)]
        assert sorted(job.result() for job in jobs) == [False, True]
    assert server.asked == [None]


def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the network is forbidden no socket is opened; files on this machine are copied."""

    def refused(*args: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refused)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MtlplugError, match="HF_HUB_OFFLINE forbids the network"):
        fetch("https://example.org/rows.tsv", tmp_path / "rows.tsv")
    (tmp_path / "source.tsv").write_bytes(CONTENT)
    assert fetch((tmp_path / "source.tsv").as_uri(), tmp_path / "copy.tsv", SHA256)
    assert (tmp_path / "copy.tsv").read_bytes() == CONTENT
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(AssertionError, match="a socket was opened"):
        fetch("http://127.0.0.1:9/rows.tsv", tmp_path / "rows.tsv")


def test_wrong_urls(tmp_path: Path) -> None:
    """Unknown kinds of urls and files that do not exist are named."""
    with pytest.raises(MtlplugError, match="unknown kind of url in ftp://x/y: 'ftp'"):
        fetch("ftp://x/y", tmp_path / "y")
    with pytest.raises(MtlplugError, match="does not exist"):
        fetch((tmp_path / "no.tsv").as_uri(), tmp_path / "y")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """The place is named, and how to choose another."""
    (tmp_path / "file").touch()
    (tmp_path / "source").touch()
    with pytest.raises(MtlplugError, match=r"cannot be written .* with --to"):
        fetch((tmp_path / "source").as_uri(), tmp_path / "file" / "rows.tsv")


def test_names_and_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files of one name from two places do not meet; all lie in the cache unless told."""
    names = {download_name(f"https://{host}/a%20b.tsv?x=1") for host in ("one.org", "two.org")}
    assert len(names) == 2
    assert all(name.endswith("-a b.tsv") for name in names)
    monkeypatch.delenv("MTLPLUG_DOWNLOADS", raising=False)
    for values in ({"MTLPLUG_CACHE": "a"}, {"XDG_CACHE_HOME": "b"}, {}):
        for name in ("MTLPLUG_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, str(tmp_path / value))
        assert downloads_folder() == cache_folder() / "downloads"
    monkeypatch.setenv("MTLPLUG_DOWNLOADS", str(tmp_path))
    assert downloads_folder() == tmp_path
