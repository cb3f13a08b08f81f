"""mtlplug.formats: values of rows, and the version of the contract."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from mtlplug_c import Classification

from mtlplug import formats
from mtlplug.errors import MtlplugError
from mtlplug.formats import Row
from mtlplug.plugin_manager import check_contract


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("a", str, "a"),
        (2, float, 2.0),
        ("-2.5", float, -2.5),
        ("7", int, 7),
        (7.0, int, 7),
        (2**60 + 1, int, 2**60 + 1),
        ([1], list, [1]),
    ],
)
def test_values(value: Any, kind: type, expected: Any) -> None:
    """A value of the kind is given as it is; numbers may be written as texts."""
    found = Row({"x": value}).value("x", kind)
    assert found == expected
    assert type(found) is kind


@pytest.mark.parametrize(
    ("value", "kind", "what"),
    [
        (3, str, "no text"),
        (None, str, "no text"),
        (True, float, "no number"),
        ("nan", float, "no number"),
        (float("inf"), float, "no number"),
        ("x", float, "no number"),
        (10**400, float, "no number"),
        (2.5, int, "no whole number"),
        ("a", list, "no list"),
    ],
)
def test_wrong_values(value: Any, kind: type, what: str) -> None:
    """Anything else is refused with place, column and value."""
    with pytest.raises(MtlplugError, match=rf"f, line 3: column 'x' holds .*, which is {what}"):
        Row({"x": value}, "f, line 3").value("x", kind)


def test_missing_values() -> None:
    """What stands for a missing value is given for None, too; without one it is an error."""
    assert Row({"x": None}).value("x", str, None) is None
    assert Row({}).value("x", float, 1.0) == 1.0
    with pytest.raises(MtlplugError, match="column 'x' holds None"):
        Row({"x": None}).value("x", float)
    with pytest.raises(MtlplugError, match="f, line 3: there is no column 'x' but y, z; "):
        Row({"y": 1, "z": 2}, "f, line 3").value("x", float)
    with pytest.raises(MtlplugError, match="no text"):
        Row({"x": 3}).value("x", str, None)


def test_rows_with_other_values() -> None:
    """They know their place, too."""
    row = Row({"x": 1, "y": 2}, "f, line 3") | {"y": 3}
    assert (row, row.where) == ({"x": 1, "y": 3}, "f, line 3")


def built_for(contract: int) -> Classification:
    """A format that was written for this version."""
    task_format = Classification()
    task_format.contract = contract
    return task_format


def test_contract_of_another_version(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Older ones are warned of for one release, then refused; newer ones are refused."""
    check_contract(built_for(formats.CONTRACT))
    with pytest.raises(MtlplugError, match=r"C is built for contract 2 .* has 1: upgrade mtlplug"):
        check_contract(built_for(2))
    assert not caplog.records
    monkeypatch.setattr(formats, "CONTRACT", 2)
    with caplog.at_level(logging.WARNING, "mtlplug"):
        check_contract(built_for(1))
    assert "contract 1 of mtlplug, which the next release refuses" in caplog.text
    monkeypatch.setattr(formats, "OLDEST_CONTRACT", 2)
    with pytest.raises(MtlplugError, match=r"contract 1 .* has 2: upgrade the plugin"):
        check_contract(built_for(1))


def test_formats_that_say_nothing_are_of_the_first_contract() -> None:
    """So that raising it cannot pass them by."""
    assert formats.TaskFormat.contract == 1
