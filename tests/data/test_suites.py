"""Suites: what a TOML file says becomes tasks and groups; what it gets wrong is named."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest
from suite_helpers import FORMATS, fault, load

from mtlplug.data.sources import Source
from mtlplug.data.suites import load_suite
from mtlplug.errors import MtlplugError
from mtlplug.formats import Task
from mtlplug.plugin_registry import Registry

TASKS = """
[tasks.one]
format = "SL"
train = "one.conll"

[tasks.two]
format = "QA"
train = "two.json"

[tasks.far]
format = "SL"
role = "target"
train = "far.conll"

[tasks.more_sl]
format = "SL"
role = "extra"
train = "more.conll"

[tasks.three]
format = "SL"
train = "three.conll"
"""


def names(tasks: Iterable[Task]) -> list[str]:
    """Names of tasks."""
    return [task.name for task in tasks]


def test_minimal_suite(tmp_path: Path) -> None:
    """A task needs a format and one split; all else has a default."""
    suite = load(tmp_path, '[tasks.one]\nformat = "SL"\ntrain = "one.conll"')
    assert (suite.name, suite.title, suite.defaults) == ("mine", "", {})
    assert suite.path == tmp_path / "mine.toml"
    assert suite.tasks["one"] == Task(
        name="one",
        format="SL",
        sources={"train": Source(path=tmp_path / "one.conll")},
        options={"all_tokens": False},
    )


def test_select(tmp_path: Path) -> None:
    """Terms are formats (their pretrain tasks), groups of the file and tasks, each task once."""
    suite = load(tmp_path, TASKS + '[groups]\nseq = ["*sl", "far"]\nall = ["seq", "QA", "t*"]')
    assert names(suite.select("SL")) == ["one", "three"]
    assert names(suite.select("QA+SL")) == ["one", "two", "three"]
    assert names(suite.select("seq")) == ["far", "more_sl"]
    assert names(suite.select("all")) == ["two", "far", "more_sl", "three"]
    assert names(suite.select(" three + far+SL ")) == ["one", "far", "three"]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("sl", r"unknown group 'sl' in 'sl' \(did you mean 'SL'\?\).*has the groups QA, SL, seq"),
        ("SL+thre", r"unknown group 'thre' in 'SL\+thre' \(did you mean 'three'\?\)"),
        ("C", "group 'C' of suite 'mine' has no task of role pretrain"),
        ("SL+", "lacks a group"),
        ("", "lacks a group"),
        ("SL,QA", "unknown group 'SL,QA'"),
    ],
)
def test_wrong_expression(tmp_path: Path, expression: str, message: str) -> None:
    """Unknown, empty and missing groups are told apart, and the known ones listed."""
    suite = load(tmp_path, TASKS + '[groups]\nseq = ["far"]')
    with pytest.raises(MtlplugError, match=message):
        suite.select(expression)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ('a = ["b"]\nb = ["a"]', "group 'a' holds itself: a -> b -> a"),
        ('a = ["oen"]', "group 'a' names 'oen', which is no task, group or pattern"),
        ('a = ["oen"]', "(did you mean 'one'?)"),
        ('a = ["x*"]', "names 'x*'"),
        ('a = "one"', "group 'a' must be a list of names"),
        ("a = []", "group 'a' must be a list of names"),
        ('SL = ["far"]', "group 'SL' has the name of the group of a task format"),
        ('one = ["far"]', "group 'one' has the name of a task"),
        ('"a+b" = ["far"]', "group 'a+b' is no usable name"),
    ],
)
def test_wrong_groups(tmp_path: Path, groups: str, message: str) -> None:
    """Groups that hold themselves, nothing or something unknown are refused."""
    assert message in fault(tmp_path, TASKS + "[groups]\n" + groups)


def test_unknown_suite(tmp_path: Path) -> None:
    """Unknown names list the known suites; missing files are named; TOML must be UTF-8."""
    with pytest.raises(MtlplugError, match=r"'colection' \(did you mean 'collection'\?\); kno"):
        load_suite("colection", FORMATS)
    with pytest.raises(MtlplugError, match=r"suite file .*no\.toml does not exist"):
        load_suite(str(tmp_path / "no.toml"), FORMATS)
    latin = tmp_path / "latin.toml"
    latin.write_bytes('title = "\xe9"'.encode("latin-1"))
    with pytest.raises(MtlplugError, match="is not UTF-8"):
        load_suite(str(latin), FORMATS)


def test_demo_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`demo` is the suite its generator writes, with its own data whatever --data says."""
    path = tmp_path / "suite.toml"
    path.write_text(TASKS, encoding="utf-8")
    generator = ModuleType("mtlplug.demo.generate")
    generator.demo_suite_path = lambda: path  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mtlplug.demo.generate", generator)
    suite = load_suite("demo", FORMATS, Path("/elsewhere"))
    assert suite.tasks["one"].sources["train"].path == tmp_path / "one.conll"


def test_mtlplug_suites_of_a_plugin(tmp_path: Path) -> None:
    """A plugin's suite is known by name; its data lie beside its file, and others may extend it."""
    (tmp_path / "birds").mkdir()
    table = '[tasks.songs]\nformat = "C"\ntrain = "songs.tsv"\nvalid = "songs.tsv"\n'
    (tmp_path / "birds" / "birds.toml").write_text(table)
    (tmp_path / "mine.toml").write_text('extends = "birds"\n')
    registry = Registry()
    registry.add("plugin 'x' of one 1.5", {"suite": {"birds": tmp_path / "birds/birds.toml"}}, "")
    suite = load_suite("birds", FORMATS, registry=registry)
    assert suite.tasks["songs"].sources["train"].path == tmp_path / "birds" / "songs.tsv"
    assert list(load_suite(str(tmp_path / "mine.toml"), FORMATS, registry=registry).tasks) == [
        "songs"
    ]
    with pytest.raises(MtlplugError, match=r"'bird' \(did you mean 'birds'\?\); known: birds"):
        load_suite("bird", FORMATS, registry=registry)
    registry.add("plugin 'y' of two 1.5", {"suite": {"demo": tmp_path / "birds/birds.toml"}}, "")
    with pytest.raises(MtlplugError, match=r"suite 'demo' of plugin 'y' of two 1\.5 has the name"):
        load_suite("birds", FORMATS, registry=registry)
    with pytest.raises(MtlplugError, match=r"'birds' comes from both .*one 1\.5 and .*three 2; no"):
        registry.add("plugin 'z' of three 2", {"suite": {"birds": tmp_path}}, "no")
