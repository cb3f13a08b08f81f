"""mtlplug.plugin_manager: finding formats, naming culprits."""

from __future__ import annotations

import sys
import types
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import mtlplug
from mtlplug.errors import MtlplugError
from mtlplug.formats import TaskFormat
from mtlplug.plugin_manager import load_plugins
from mtlplug.study.executors import Resources, make_executor


class FakeDistribution(Distribution):
    """A distribution that exists only in this test."""

    def __init__(self, name: str) -> None:
        self._name = name

    def read_text(self, filename: str) -> str | None:
        """Its metadata."""
        return f"Name: {self._name}\nVersion: 1.5\n" if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Path:
        """Nowhere."""
        return Path(path)


def make_format(code: str, **values: Any) -> TaskFormat:
    """A format of this code that does nothing."""

    class Empty(TaskFormat):
        title = "empty"
        headline = "accuracy"

        def features(self, task: Any, rows: Any, encode: Any) -> Any:
            return iter(())

        def head(self, task: Any, hidden_size: int) -> nn.Module:
            return nn.Identity()

        def loss(self, scores: Any, targets: Any, splits: Any) -> Any:
            return scores

        def decode(self, task: Any, scores: Any, splits: Any) -> Any:
            return []

        def metrics(self, task: Any, predictions: Any, references: Any) -> Any:
            return {}

    for name, value in {"code": code, **values}.items():
        setattr(Empty, name, value)
    return Empty()


def plugin(
    monkeypatch: pytest.MonkeyPatch, distribution: str, name: str, **contents: Any
) -> EntryPoint:
    """An installed plugin whose module holds `contents`."""
    module = types.ModuleType(f"fake_{distribution}_{name}")
    for key, value in contents.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    point = EntryPoint(name, module.__name__, "mtlplug")
    return point._for(FakeDistribution(distribution))  # type: ignore[attr-defined]


def bring(*formats: Any) -> Any:
    """A hook implementation that returns these."""

    def mtlplug_task_formats() -> Any:
        return list(formats)

    return mtlplug.hookimpl(mtlplug_task_formats)


def test_built_in_formats_arrive_by_entry_point() -> None:
    """SL, QA and C are found as any third party's format is."""
    found = load_plugins()
    assert {"SL", "QA", "C"} <= set(found.formats)
    assert {p.distribution for p in found.plugins if "SL" in p.formats} == {"mtlplug"}


def test_two_plugins_may_share_an_entry_point_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both load when they belong to different distributions."""
    points = [
        plugin(monkeypatch, "one", "x", mtlplug_task_formats=bring(make_format("A"))),
        plugin(monkeypatch, "two", "x", mtlplug_task_formats=bring(make_format("B"))),
    ]
    assert sorted(load_plugins(points).formats) == ["A", "B"]


def test_mtlplug_executors_of_plugins_are_known_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin may bring executors alone; `make_executor` calls what it brought."""

    def brought(name: str, value: Any) -> Any:
        def mtlplug_executors() -> Any:
            return {name: value}

        return mtlplug.hookimpl(mtlplug_executors)

    point = plugin(monkeypatch, "one", "x", mtlplug_executors=brought("queue", lambda _: "made"))
    found = load_plugins([point])
    assert not found.plugins[0].error
    resources = Resources(Path("study"))
    assert make_executor("queue", resources, found) == "made"  # type: ignore[comparison-overlap]
    with pytest.raises(MtlplugError, match="unknown executor 'cloud'; known: local, queue, ray"):
        make_executor("cloud", resources, found)
    twice = plugin(monkeypatch, "two", "x", mtlplug_executors=brought("queue", print))
    with pytest.raises(
        MtlplugError, match=r"executor 'queue' comes from both .*one 1\.5 and .*two"
    ):
        load_plugins([point, twice])
    nothing = plugin(monkeypatch, "three", "x", mtlplug_executors=brought("empty", None))
    assert "executor 'empty' cannot be called" in str(load_plugins([nothing]).plugins[0].error)
    ours = plugin(monkeypatch, "four", "x", mtlplug_executors=brought("local", print))
    with pytest.raises(MtlplugError, match=r"executor 'local' of .*four 1\.5 has the name of one"):
        make_executor("local", resources, load_plugins([ours]))


def test_a_broken_plugin_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with distribution, version and reason; the others load."""
    missing = EntryPoint("bad", "no_such_module_anywhere", "mtlplug")
    points = [
        missing._for(FakeDistribution("broken")),  # type: ignore[attr-defined]
        plugin(monkeypatch, "good", "x", mtlplug_task_formats=bring(make_format("A"))),
    ]
    found = load_plugins(points)
    assert list(found.formats) == ["A"]
    bad = next(each for each in found.plugins if each.error)
    assert (bad.distribution, bad.version) == ("broken", "1.5")
    assert "no_such_module_anywhere" in str(bad.error)


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        ({"mtlplug_task_formats": bring("not a format")}, "returned str, not a TaskFormat"),
        ({"mtlplug_task_formats": bring(make_format(""))}, "has no 'code'"),
        ({"mtlplug_task_formats": bring(make_format("A+B"))}, "no plain name"),
        (
            {"mtlplug_task_formats": bring(make_format("A", borrows=("pooler",)))},
            "unknown parameter for a head to borrow 'pooler'; known: input_embeddings",
        ),
        (
            {"mtlplug_task_formats": bring(make_format("A", chooses=(2, "rows")))},
            "unknown thing to choose from 'rows'; known: labels, reads",
        ),
        ({"mtlplug_no_such_hook": mtlplug.hookimpl(lambda: None)}, "mtlplug_no_such_hook"),
    ],
)
def test_what_is_no_format_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, contents: dict[str, Any], reason: str
) -> None:
    """A wrong return value or an unknown hook makes the plugin a broken one."""
    if "mtlplug_no_such_hook" in contents:

        def mtlplug_no_such_hook() -> None: ...

        contents = {"mtlplug_no_such_hook": mtlplug.hookimpl(mtlplug_no_such_hook)}
    points = [
        plugin(monkeypatch, "broken", "x", **contents),
        plugin(monkeypatch, "good", "x", mtlplug_task_formats=bring(make_format("A"))),
    ]
    found = load_plugins(points)
    assert list(found.formats) == ["A"]
    assert reason in str(found.plugins[0].error)


def test_one_code_from_two_distributions_is_an_error_that_names_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which of the two is meant cannot be guessed."""
    points = [
        plugin(monkeypatch, name, "x", mtlplug_task_formats=bring(make_format("A")))
        for name in ("one", "two")
    ]
    with pytest.raises(MtlplugError, match=r"'A' comes from both .*one 1\.5 and .*two 1\.5"):
        load_plugins(points)
