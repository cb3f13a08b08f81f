"""Tables of tasks: every setting arrives where it belongs, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from suite_helpers import fault, load

from mtlplug.data.sources import Source
from mtlplug.errors import MtlplugError

TASK = '[tasks.one]\nformat = "SL"\ntrain = "a.conll"\n'


def test_full_task(tmp_path: Path) -> None:
    """Every setting arrives where it belongs; a split's own setting wins over the task's."""
    suite = load(
        tmp_path,
        """
name = "full"
title = "All keys"
[defaults]
learning-rate = 1e-4
max_epochs = 2
[tasks.x]
format = "C"
role = "target"
valid = { path = "b.txt", reader = "csv", encoding = "cp1252" }
train = "a.tsv"
splits = { tweets = "/abs/t.tsv" }
columns = { text = ["a", 1], label = -1 }
header = false
quoting = "none"
separator = ";"
labels = ["no", "yes"]
metric = "f1"
weight = 2
options = { max_length = 64 }
info = { licence = "CC0" }
""",
    )
    task = suite.tasks["x"]
    assert (suite.name, suite.title) == ("full", "All keys")
    assert suite.defaults == {"learning_rate": 1e-4, "max_epochs": 2}
    assert suite.info == {"x": {"licence": "CC0"}}
    assert (task.role, task.labels, task.metric, task.weight) == ("target", ("no", "yes"), "f1", 2)
    assert dict(task.options) == {"max_length": 64}
    assert task.chooses is None
    assert list(task.sources) == ["train", "valid", "tweets"]
    shared: dict[str, Any] = {
        "columns": {"text": ["a", 1], "label": -1},
        "header": False,
        "quoting": "none",
        "separator": ";",
    }
    assert task.sources["train"] == Source(path=tmp_path / "a.tsv", **shared)
    assert task.sources["tweets"] == Source(path=Path("/abs/t.tsv"), **shared)
    assert task.sources["valid"] == Source(
        path=tmp_path / "b.txt", reader="csv", encoding="cp1252", **shared
    )


def test_dataset_of_the_hub(tmp_path: Path) -> None:
    """A dataset named at the task serves all its splits but those that have a path."""
    suite = load(
        tmp_path,
        """
[tasks.x]
format = "C"
dataset = "some/set"
config = "en"
revision = "abc"
train = { split = "train" }
valid = { split = "validation", data_dir = "d" }
test = "local.tsv"
""",
    )
    shared: dict[str, Any] = {"dataset": "some/set", "config": "en", "revision": "abc"}
    assert suite.tasks["x"].sources == {
        "train": Source(split="train", **shared),
        "valid": Source(split="validation", data_dir="d", **shared),
        "test": Source(path=tmp_path / "local.tsv"),
    }


def test_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths start from --data where it is given; `~` is the home folder."""
    monkeypatch.setenv("HOME", "/home/someone")
    data = tmp_path / "data"
    data.mkdir()
    text = '[tasks.one]\nformat = "SL"\ntrain = "one.conll"\ntest = "~/t.conll"'
    sources = load(tmp_path, text, data).tasks["one"].sources
    assert sources["train"].path == data / "one.conll"
    assert sources["test"].path == Path("/home/someone/t.conll")
    with pytest.raises(MtlplugError, match=r"data folder .*absent does not exist.*--data"):
        load(tmp_path, text, tmp_path / "absent")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('nam = "x"\n' + TASK, "unknown key 'nam' (did you mean 'name'?); known: defaults"),
        (TASK + 'leng = "x"', "task 'one': unknown key 'leng'"),
        (TASK + "colums = { tokens = 1 }", "unknown key 'colums' (did you mean 'columns'?)"),
        (TASK + "columns = { tag = 1 }", "columns of format SL: unknown key 'tag' (did you mean"),
        (TASK + "columns = { tags = true }", "tags is True; it should be a string or"),
        (TASK + "columns = { tags = [] }", "column tags is []"),
        (TASK + "columns = { tags = [1.5] }", "column tags is [1.5]"),
        (TASK + "options = { all_token = true }", "(did you mean 'all_tokens'?); known: all_tok"),
        (TASK + "options = { all_tokens = 1 }", "all_tokens is 1; it should be true or false"),
        (TASK + 'options = { max_length = "9" }', "max_length is '9'; it should be a whole"),
        (TASK + 'role = "main"', "task 'one': unknown role 'main'; known: extra, pretrain"),
        (TASK + "weight = 0", "weight is 0; it must be above 0"),
        (TASK + "weight = nan", "weight is nan"),
        (TASK + "weight = true", "weight is True; it should be a whole number or a number"),
        (TASK + "labels = [0, 1]", "labels must be different strings"),
        (TASK + 'labels = ["a", "a"]', "labels must be different strings"),
        (TASK + 'reader = "xml"', "task 'one', split 'train': unknown reader 'xml'"),
        (TASK + "valid = 3", "valid is 3; it should be a string or a table"),
        (TASK + "splits = { en = 3 }", "en is 3; it should be a string or a table"),
        (TASK + 'splits = { "../x" = "y" }', "split '../x' is no usable name"),
        (TASK + 'splits = { train = "y" }', "gives split 'train' twice"),
        (TASK + 'test = { file = "x" }', "split 'test': unknown key 'file'"),
        (TASK + "test = { }", "either a path or a dataset"),
        (
            TASK.replace('"SL"', '"sl"'),
            "no task format 'sl' is installed (did you mean 'SL'?); ins",
        ),
        ('[tasks.one]\ntrain = "x.tsv"', "task 'one' has no format"),
        ('[tasks.one]\nformat = "SL"', "task 'one' has no split"),
        ("tasks = { one = 3 }", "one is 3; it should be a table"),
        (TASK.replace("one", '"../one"'), "task '../one' is no usable name"),
        (TASK.replace("one", '"a..b"'), "task 'a..b' is no usable name"),
        (TASK.replace("one", '"a+b"'), "task 'a+b' is no usable name"),
        (TASK.replace("one", '"-a"'), "task '-a' is no usable name"),
        ('name = "x"', "has no tasks"),
        ("\nname = = ", "is bad TOML: Invalid value (at line 2"),
        (TASK + TASK, "is bad TOML"),
    ],
)
def test_wrong_suite(tmp_path: Path, text: str, message: str) -> None:
    """Whatever is unknown or of the wrong type is named with file, task and key."""
    found = fault(tmp_path, text)
    assert message in found
    assert str(tmp_path / "mine.toml") in found


def test_options(tmp_path: Path) -> None:
    """Options are the format's with the task's values; whole numbers serve as numbers."""
    text = '[tasks.one]\nformat = "QA"\ntrain = "a.json"\noptions = { threshold = 1 }'
    assert dict(load(tmp_path, text).tasks["one"].options) == {"max_length": 384, "threshold": 1}


def test_format_without_columns(tmp_path: Path) -> None:
    """A format that names no columns takes any."""
    text = '[tasks.one]\nformat = "NEW"\ntrain = "a.tsv"\ncolumns = { anything = 1 }'
    assert load(tmp_path, text).tasks["one"].sources["train"].columns == {"anything": 1}


def test_a_task_chooses_as_its_format_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weightings get tasks alone, so it goes with these."""
    monkeypatch.setattr("mtlplug.formats.TaskFormat.chooses", (2,))
    assert load(tmp_path, TASK).tasks["one"].chooses == (2,)
