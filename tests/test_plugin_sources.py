"""mtlplug.plugin_sources: plugins named by `-p`, switched off, or not loaded by themselves."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from mtlplug.errors import MtlplugError
from mtlplug.plugin_manager import Plugin, load_plugins
from mtlplug.plugin_sources import AUTOLOAD, GIVEN, give
from tests.small_suite import command

LOCAL = """
import mtlplug
from mtlplug_c import Classification


class Local(Classification):
    code = "{code}"


@mtlplug.hookimpl
def mtlplug_task_formats():
    return [Local()]
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is given yet, and what a test gives is forgotten after it."""
    monkeypatch.setenv(GIVEN, "[]")
    monkeypatch.delenv(AUTOLOAD, raising=False)


def written(folder: Path, name: str, text: str | None = None) -> Path:
    """A file that brings a format of this name in capitals."""
    path = folder / f"{name}.py"
    path.write_text(text or LOCAL.format(code=name.upper()), encoding="utf-8")
    return path


def named(name: str) -> Plugin:
    """What is known of a plugin."""
    return next(each for each in load_plugins().plugins if each.name == name)


def test_a_local_file(tmp_path: Path) -> None:
    """Its format is there, its path and hash take the place of distribution and version."""
    path = written(tmp_path, "local_one")
    give([str(path)])
    assert "LOCAL_ONE" in load_plugins().formats
    plugin = named("local_one")
    assert (plugin.distribution, plugin.status) == (str(path), "ok")
    assert plugin.version == f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    assert plugin.hooks == ("mtlplug_task_formats",)


def test_other_processes_load_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-p` is kept in the environment, each value once, with paths that hold anywhere."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "local_two")
    give(["local_two.py", "no:qa"])
    give(["no:qa"])
    assert json.loads(os.environ[GIVEN]) == [str(tmp_path / "local_two.py"), "no:qa"]


def test_switched_off() -> None:
    """`no:NAME` and `no:DISTRIBUTION:NAME` leave a plugin out, which is listed as off."""
    give(["no:qa", "no:mtlplug:sl"])
    assert set(load_plugins().formats) & {"SL", "QA", "C"} == {"C"}
    assert named("sl").status == "off: -p no:mtlplug:sl"


def test_autoload_is_restricted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable names all that load by themselves; `-p` adds to them."""
    monkeypatch.setenv(AUTOLOAD, "c, mtlplug:sl")
    assert set(load_plugins().formats) == {"C", "SL"}
    assert AUTOLOAD in named("qa").status
    give(["qa"])
    assert set(load_plugins().formats) == {"C", "SL", "QA"}
    monkeypatch.setenv(AUTOLOAD, "")
    assert set(load_plugins().formats) == {"QA"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_module", "no module of this name"),
        ("nowhere/gone.py", "is no file"),
        ("no:gone", "unknown plugin 'gone'; known: c, qa, sl"),
        ("{folder}/json.py", "has the name of the module"),
        ("{folder}/with-dash.py", "has a name that no module may have"),
        ("{folder}/broken_one.py", "broken_one.py cannot be loaded: ZeroDivisionError.*mend"),
        ("{folder}/needs_more.py", "No module named 'no_such_package'; .*install"),
    ],
)
def test_what_cannot_be_loaded(tmp_path: Path, value: str, message: str) -> None:
    """What `-p` names and cannot be had ends the command with one sentence."""
    for name in ("json", "with-dash"):
        written(tmp_path, name)
    written(tmp_path, "broken_one", "1 / 0")
    written(tmp_path, "needs_more", "import no_such_package")
    give([value.format(folder=tmp_path)])
    with pytest.raises(MtlplugError, match=message):
        load_plugins()


def test_every_command_takes_it(tmp_path: Path) -> None:
    """`mtlplug plugins -p FILE --json` lists what was loaded, for machines too."""
    path = written(tmp_path, "local_three")
    result = command("plugins", "-p", path, "-p", "no:qa", "--json")
    assert result.exit_code == 0, result.output
    listed = {each["name"]: each for each in json.loads(result.stdout)}
    assert listed["local_three"]["formats"] == ["LOCAL_THREE"]
    assert listed["qa"]["status"].startswith("off")
    result = command("tasks", "-p", "no:qa")
    assert result.exit_code == 2
    assert "no task format 'QA' is installed" in result.stderr
