"""A suite that extends another: what it replaces, keeps and drops."""

from __future__ import annotations

from pathlib import Path

import pytest
from suite_helpers import FORMATS, fault, load

from mtlplug.data.suites import load_suite
from mtlplug.errors import MtlplugError
from mtlplug.plugin_manager import load_plugins

BELOW = """
title = "below"
defaults = { batch_size = 8, patience = 2 }

[groups]
both = ["ner", "far"]
inner = ["ner"]
outer = ["inner", "far"]

[tasks.ner]
format = "SL"
role = "target"
reader = "conll"
encoding = "cp1252"
columns = { tokens = 1, tags = 0 }
train = "a.txt"
valid = "b.txt"
test = "c.txt"
metric = "f1"
options = { all_tokens = true }
info = { language = "en", licence = "CC0" }

[tasks.far]
format = "C"
dataset = "someone/far"
revision = "0123"
columns = { text = "sentence", label = "label" }
train = { split = "train" }
"""


@pytest.fixture
def below(tmp_path: Path) -> Path:
    """The folder with the suite that is extended."""
    (tmp_path / "below.toml").write_text(BELOW, encoding="utf-8")
    return tmp_path


def test_new_splits_replace_all_of_reading(below: Path) -> None:
    """New splits bring no old split, reader, column or encoding; the rest of the task stays."""
    suite = load(below, 'extends = "below.toml"\n[tasks.ner]\ntrain = "x.conll"\ninfo.part = "few"')
    task = suite.tasks["ner"]
    assert list(task.sources) == ["train"]
    source = task.sources["train"]
    assert (source.path, source.reader, source.encoding) == (below / "x.conll", "", "utf-8")
    assert source.columns == {}
    assert (task.role, task.metric, task.options) == ("target", "f1", {"all_tokens": True})
    assert suite.info["ner"] == {"language": "en", "licence": "CC0", "part": "few"}
    assert suite.tasks["far"].sources["train"].dataset == "someone/far"


def test_other_keys_leave_the_splits(below: Path) -> None:
    """A task that names no split or dataset keeps where its rows come from."""
    suite = load(below, 'extends = "below.toml"\n[tasks.ner]\nweight = 2.0\nencoding = "utf-8"')
    source = suite.tasks["ner"].sources["train"]
    assert (source.reader, source.encoding) == ("conll", "utf-8")
    assert suite.tasks["ner"].weight == 2.0


def test_a_file_in_place_of_a_dataset(below: Path) -> None:
    """A path replaces a hub dataset with its revision and columns."""
    suite = load(below, 'extends = "below.toml"\n[tasks.far]\ntrain = "x.jsonl"')
    source = suite.tasks["far"].sources["train"]
    assert (source.dataset, source.revision, source.columns) == (None, None, {})


def test_the_rest_is_merged(below: Path) -> None:
    """Defaults, groups and study are merged key by key; the name is the extending file's own."""
    text = 'extends = "below.toml"\ndefaults = { patience = 5 }\n[groups]\nmine = ["far"]'
    suite = load(below, text)
    assert (suite.name, suite.title) == ("mine", "below")
    assert suite.defaults == {"batch_size": 8, "patience": 5}
    assert suite.groups["mine"] == ("far",)
    assert suite.groups["both"] == ("ner", "far")


def test_drop(below: Path) -> None:
    """Dropped tasks leave the groups too, and groups left empty vanish from groups."""
    suite = load(below, 'extends = "below.toml"\ndrop = ["n*"]')
    assert list(suite.tasks) == ["far"]
    assert suite.groups["both"] == suite.groups["outer"] == ("far",)
    assert "inner" not in suite.groups


def test_a_chain(below: Path) -> None:
    """A suite may extend one that extends another."""
    middle = 'extends = "below.toml"\n[tasks.ner]\ntrain = "middle.conll"'
    (below / "middle.toml").write_text(middle, encoding="utf-8")
    suite = load(below, 'extends = "middle.toml"\ndrop = ["far"]')
    assert suite.tasks["ner"].sources["train"].path == below / "middle.conll"
    assert list(suite.tasks) == ["ner"]


def test_builtin_by_name(tmp_path: Path) -> None:
    """Suites that come with mtlplug are extended by name, with paths below --data."""
    text = 'extends = "collection"\n[tasks.sst2]\ntrain = "mine.tsv"'
    (tmp_path / "over.toml").write_text(text, encoding="utf-8")
    suite = load_suite(str(tmp_path / "over.toml"), FORMATS, tmp_path)
    assert suite.tasks["sst2"].sources["train"].path == tmp_path / "mine.tsv"
    assert suite.tasks["cola"].sources["train"].path == tmp_path / "C/cola/train.tsv.gz"


def test_the_demo_brings_its_data(tmp_path: Path) -> None:
    """A suite laid over `demo` has the demo's tasks and encoder beside its own files."""
    text = 'extends = "demo"\n[tasks.mine]\nformat = "C"\ntrain = "mine.tsv"'
    (tmp_path / "over.toml").write_text(text, encoding="utf-8")
    suite = load_suite(str(tmp_path / "over.toml"), load_plugins().formats)
    assert suite.tasks["mine"].sources["train"].path == tmp_path / "mine.tsv"
    assert all(suite.tasks["mood"].sources[split].path.is_file() for split in ("train", "valid"))
    assert (Path(suite.defaults["model"]) / "config.json").is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "mine.toml"', "extends itself"),
        ('extends = "nothing"', "unknown suite 'nothing'"),
        ('extends = "below.toml"\ndrop = ["nerr"]', "drops 'nerr', which is no task"),
        ('extends = "below.toml"\ndrop = ["nerr"]', "(did you mean 'ner'?)"),
        ('drop = ["ner"]\n[tasks.ner]\nformat = "SL"\ntrain = "a"', "extends no suite"),
        ('extend = "below.toml"', "(did you mean 'extends'?)"),
        ('extends = "below.toml"\n[tasks]\nner = 3', "ner is 3; it should be a table"),
        ('extends = "below.toml"\n[tasks.new]\nrole = "extra"', "task 'new' has no format"),
    ],
)
def test_faults(below: Path, text: str, message: str) -> None:
    """What cannot be laid over is named, with the place."""
    assert message in fault(below, text)


def test_url_and_path(tmp_path: Path) -> None:
    """A url's file lies in the folder of downloads; a path beside it is refused."""
    url = "https://example.org/a/rows.tsv"
    text = f'[tasks.one]\nformat = "C"\ntrain = {{ url = "{url}"'
    path = tmp_path / "web.toml"
    path.write_text(text + " }", encoding="utf-8")
    suite = load_suite(str(path), FORMATS, None, tmp_path / "downloads")
    source = suite.tasks["one"].sources["train"]
    assert source.path is not None
    assert source.path.parent == tmp_path / "downloads"
    assert source.kind == "tsv"
    with pytest.raises(MtlplugError, match="is not downloaded yet; run 'mtlplug data fetch'"):
        next(source.rows())
    with pytest.raises(MtlplugError, match="is not downloaded yet"):
        source.fingerprint()
    assert "has a path and a url" in fault(tmp_path, text + ', path = "rows.tsv" }')
    assert "sha256 is 'abc'" in fault(tmp_path, text + ', sha256 = "abc" }')
