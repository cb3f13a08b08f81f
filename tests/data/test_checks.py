"""`mtlplug data`: every task's state and remedy, downloads, exit codes."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from click.testing import CliRunner, Result

from mtlplug.cli import main
from mtlplug.data import hub
from mtlplug.data.fetching import OFFLINE

CONLL = "Ann B-PER\nran O\n\nBo B-PER\n"
SUITE = """
[tasks.good]
format = "SL"
train = "good.conll"

[tasks.lost]
format = "SL"
train = "SL/lost/train.conll"
info = { source = "https://example.org/lost" }

[tasks.closed]
format = "SL"
train = "closed.conll"
info = { access = "licence", licence = "LDC agreement" }

[tasks.bad]
format = "C"
train = "bad.tsv"
columns = { text = "sentence", label = "label" }

[tasks.empty]
format = "C"
train = "empty.jsonl"

[tasks.alien]
format = "C"
train = "alien.jsonl"
labels = ["yes", "no"]

[tasks.far]
format = "C"
dataset = "someone/nowhere"

train = { split = "train" }
columns = { text = "text", label = "label" }
"""


@pytest.fixture
def suite(tmp_path: Path) -> str:
    """A suite with a task in every state."""
    (tmp_path / "good.conll").write_text(CONLL)
    (tmp_path / "bad.tsv").write_text("text\tlabel\na\t1\n")
    (tmp_path / "empty.jsonl").write_text('{"sentence": "a", "label": "1"}\n')
    (tmp_path / "alien.jsonl").write_text('{"text": "a", "label": "maybe"}\n')
    (tmp_path / "mine.toml").write_text(SUITE)
    return str(tmp_path / "mine.toml")


def call(*options: str) -> Result:
    """Run `mtlplug data`."""
    return CliRunner().invoke(main, ["data", *options])


def findings(*options: str) -> dict[str, dict[str, Any]]:
    """What `mtlplug data doctor --json` says of each task."""
    result = call("doctor", *options, "--json")
    return {each["task"]: each for each in json.loads(result.stdout)}


def test_states(suite: str, tmp_path: Path) -> None:
    """Each trouble has its state, names its place and says what to do."""
    found = findings(suite)
    assert {task: each["state"] for task, each in found.items()} == {
        "good": "ok",
        "lost": "needs local file",
        "closed": "blocked by licence",
        "bad": "broken",
        "empty": "broken",
        "alien": "broken",
        "far": "unreachable",
    }
    assert found["good"]["remedy"] == ""
    assert found["lost"]["found"] == "train: SL/lost/train.conll"
    assert "(from https://example.org/lost)" in found["lost"]["remedy"]
    assert "get the licence (LDC agreement)" in found["closed"]["remedy"]
    assert "has no column 'sentence'; it has: text, label" in found["bad"]["found"]
    assert "none of the first 1 rows can be used (1 row without text)" in found["empty"]["found"]
    assert "unknown label 'maybe'; known: no, yes" in found["alien"]["found"]
    assert found["far"]["found"] == "someone/nowhere is not in the hub's cache"


def test_table_and_exit_codes(suite: str, tmp_path: Path) -> None:
    """0: all is ok; 1: something is not; 2: the suite cannot be opened."""
    result = call("doctor", suite)
    assert result.exit_code == 1
    assert (
        "1 ok, 1 needs local file, 1 blocked by licence, 3 broken, 1 unreachable" in result.output
    )
    assert "what to do" in result.output
    only = tmp_path / "only.toml"
    only.write_text('extends = "mine.toml"\ndrop = ["[!g]*"]')
    assert call("doctor", str(only)).exit_code == 0
    assert call("doctor", "nothing").exit_code == 2
    assert call("doctor", suite, "--data", str(tmp_path / "no")).exit_code == 2


def test_offline_opens_no_socket(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With HF_HUB_OFFLINE=1 neither a hub dataset nor a url makes a connection."""

    def refused(*args: object, **settings: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    hub._load.cache_clear()
    assert findings(suite)["far"]["state"] == "unreachable"
    found = findings("padmakumar2022")
    assert {each["state"] for each in found.values()} == {
        "unreachable",
        "needs local file",
        "blocked by licence",
    }
    result = call("fetch", "padmakumar2022", "--task", "qed")
    assert result.exit_code == 1
    assert "forbids the network" in result.output


def test_online_the_hub_is_streamed(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the network is allowed, first rows come by streaming; nothing is downloaded."""
    asked: list[bool] = []

    def load(*settings: Any) -> None:
        asked.append(settings[-1])
        raise hub.UnreachableError("no route to the hub")

    monkeypatch.setattr(hub, "_load", load)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    found = findings(suite)["far"]
    assert (found["state"], found["found"]) == ("unreachable", "no route to the hub")
    assert asked == [True]
    # What could not be reached is not asked again.
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_without_network_fetch_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence for all tasks, files and datasets of the hub alike, and no second try."""
    for name in OFFLINE:
        monkeypatch.delenv(name, raising=False)
    suite = tmp_path / "web.toml"
    text = '[tasks.{0}]\nformat = "SL"\n{1}\n'
    file = 'train = {{ url = "https://example.invalid/{0}.conll" }}'
    hub_task = 'dataset = "someone/{0}"\ntrain = {{ split = "train" }}'
    kinds = {"one": file, "two": file, "three": hub_task, "four": hub_task}
    suite.write_text("".join(text.format(name, kind.format(name)) for name, kind in kinds.items()))
    asked: list[str] = []

    def urlopen(request: Any, timeout: float) -> None:
        asked.append(request.full_url)
        raise URLError(socket.gaierror(-2, "Name or service not known"))

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(hub, "leave_the_hub", lambda: monkeypatch.setenv(OFFLINE[0], "1"))
    hub.hub_answers.cache_clear()
    result = call("fetch", str(suite))
    hub.hub_answers.cache_clear()
    assert result.exit_code == 1
    assert result.output == (
        "the network cannot be reached, and these are not here; go online and fetch again: "
        "one, two, three, four\n"
    )
    assert len(asked) == 3  # for each file, and once for the hub


def test_fetch(tmp_path: Path) -> None:
    """What has a url is downloaded where --to says, and then read from there."""
    rows = tmp_path / "rows.conll"
    rows.write_text(CONLL)
    sha256 = hashlib.sha256(rows.read_bytes()).hexdigest()
    suite = tmp_path / "web.toml"
    one = f'{{ url = "{rows.as_uri()}", sha256 = "{sha256}", part = "first 1/2" }}'
    two = f'{{ url = "{rows.as_uri()}", sha256 = "{"0" * 64}" }}'
    text = '[tasks.{0}]\nformat = "SL"\ntrain = {1}\n'
    suite.write_text(text.format("one", one) + text.format("two", two))
    there = str(tmp_path / "there")
    first = CliRunner(env={"MTLPLUG_DOWNLOADS": there})
    doctor = ["data", "doctor", str(suite), "--json"]
    before = json.loads(first.invoke(main, doctor).stdout)
    assert [each["state"] for each in before] == ["not fetched", "not fetched"]
    assert before[0]["remedy"] == f"mtlplug data fetch {suite} --task one"
    result = call("fetch", str(suite), "--task", "one", "--to", there)
    assert result.exit_code == 0, result.output
    assert f"MTLPLUG_DOWNLOADS={there}" in result.output.replace("\n", "")
    assert [each["state"] for each in json.loads(first.invoke(main, doctor).stdout)] == ["ok", "ok"]
    elsewhere = call("fetch", str(suite), "--to", str(tmp_path / "elsewhere"), "--task", "two")
    assert elsewhere.exit_code == 1
    assert "is another file than the suite means" in elsewhere.output
    assert call("fetch", str(suite), "--task", "three").exit_code == 2


def test_help_is_quick() -> None:
    """The commands load without torch."""
    import subprocess
    import sys

    code = "import sys, mtlplug.data.commands; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
