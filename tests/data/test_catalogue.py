"""The catalogue of the paper's tasks: whole, sound, documented, and read from real data."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from mtlplug.data.checks import check_suite
from mtlplug.data.overview import overview
from mtlplug.data.suites import Suite, load_suite
from mtlplug.plugin_manager import load_plugins

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / "examples" / "suites" / "padmakumar2022_local.toml"
FORMATS = load_plugins().formats
TARGETS = {
    "SL": {"wnut17", "wikigold", "mit_movie", "ncbi_disease"},
    "QA": {"squad_adversarial", "subjqa_books", "qed", "xquad_r"},
    "C": {"boolq", "cb", "copa", "wic"},
}
INFO = {"language", "licence", "access", "source", "citation", "state"}


@pytest.fixture(scope="module")
def suite() -> Suite:
    """The catalogue."""
    return load_suite("padmakumar2022", FORMATS)


def test_all_tasks_of_the_paper(suite: Suite) -> None:
    """29 tasks for pre-finetuning and 12 unseen targets, as appendix A lists them."""
    counts = Counter((task.role, task.format) for task in suite.tasks.values())
    assert counts == {
        ("pretrain", "SL"): 15,
        ("pretrain", "QA"): 6,
        ("pretrain", "C"): 8,
        **{("target", code): 4 for code in TARGETS},
    }
    assert len(suite.select("SL+QA+C")) == 29
    for code, names in TARGETS.items():
        found = {t.name for t in suite.tasks.values() if (t.role, t.format) == ("target", code)}
        assert found == names


def test_metrics(suite: Suite) -> None:
    """Targets are scored as in the paper: F1, but accuracy for BoolQ, COPA and WiC."""
    metrics = {task.name: task.metric for task in suite.tasks.values() if task.role == "target"}
    accuracy = {name for name, metric in metrics.items() if metric == "accuracy"}
    assert accuracy == {"boolq", "copa", "wic"}
    assert {metric for name, metric in metrics.items() if name not in accuracy} == {"f1"}
    assert len(suite.tasks["copa"].labels) == 2


def test_examples_of_classification(suite: Suite) -> None:
    """The training rows of the eight tasks add up to the paper's 943,984."""
    group = suite.select("C")
    assert sum(suite.info[task.name]["examples"] for task in group) == 943_984


def test_every_entry_tells_what_people_need(suite: Suite) -> None:
    """Language, licence, access, source, citation and state stand at every task."""
    for task, info in suite.info.items():
        assert set(info) >= INFO, task
        assert info["access"] in ("open", "local", "licence"), task
        assert set(suite.tasks[task].sources) >= {"train", "valid"}, task
        if suite.tasks[task].format == "SL":
            assert "scheme" in info


def test_sources_are_fixed(suite: Suite) -> None:
    """Files of GitHub are of one commit, with a checksum; all that is not fixed is said."""
    loose = set()
    for task in suite.tasks.values():
        for source in task.sources.values():
            if source.url is not None and "githubusercontent" in source.url:
                assert re.search("/[0-9a-f]{40}/", source.url), task.name
                assert source.sha256, task.name
            elif source.url is not None:
                loose.add(task.name)
            elif source.dataset is not None:
                if not re.fullmatch("[0-9a-f]{40}", source.revision or ""):
                    loose.add(task.name)
            else:
                assert suite.info[task.name]["access"] in ("local", "licence"), task.name
    assert loose == {"conll2002_es", "conll2002_nl", "mit_movie", "subjqa_books"}
    for name in loose:
        assert re.search("no fixed revision known|no checksum known", suite.info[name]["state"])


def test_split_policy(suite: Suite) -> None:
    """What the paper splits 4:1 is split by articles or contexts, in disjoint shares."""
    parts = {
        name: tuple(suite.tasks[name].sources[split].part for split in ("train", "valid"))
        for name in ("squad_adversarial", "qed", "xquad_r", "wikigold")
    }
    assert parts == {
        "squad_adversarial": ("first 4/5 by title", "last 1/5 by title"),
        "qed": ("first 4/5 by context", "last 1/5 by context"),
        "xquad_r": ("first 4/5 by title", "last 1/5 by title"),
        "wikigold": ("first 4/5", "last 1/5"),
    }
    assert suite.tasks["subjqa_books"].sources["train"].data_dir == "books"


def test_documentation_is_the_suite(suite: Suite) -> None:
    """The table of docs/catalogue.md is what `mtlplug data table` prints now."""
    text = (ROOT / "docs" / "catalogue.md").read_text(encoding="utf-8")
    table = overview(suite, FORMATS)
    assert table.count("\n") == 2 + 41
    assert table in text
    assert "all 41 tasks" in text


def test_local_overrides(suite: Suite, tmp_path: Path) -> None:
    """The example takes thirty tasks from files and changes neither role, metric nor format."""
    local = load_suite(str(LOCAL), FORMATS, tmp_path)
    assert len(local.tasks) == 30
    assert {name for names in TARGETS.values() for name in names} <= set(local.tasks)
    for name, task in local.tasks.items():
        above = suite.tasks[name]
        assert (task.role, task.metric, task.format) == (above.role, above.metric, above.format)
        assert len(task.labels) == len(above.labels)
        for source in task.sources.values():
            assert source.path is not None
            assert source.path.is_relative_to(tmp_path)
            assert (source.url, source.dataset, source.part) == (None, None, "")


@pytest.mark.slow
def test_local_overrides_read_real_data(real_data: Path) -> None:
    """Every task of the example is found, fits its format, and has rows in every split."""
    local = load_suite(str(LOCAL), FORMATS, real_data)
    found = list(check_suite(local, FORMATS, str(LOCAL), real_data))
    assert {each.task: each.found for each in found if each.state != "ok"} == {}
    for task in local.tasks.values():
        for source in task.sources.values():
            assert len(list(islice(source.rows(), 20))) == 20


def test_local_overrides_name_their_parts(real_data: Path) -> None:
    """What the index of the real data calls partial is marked as a part, and nothing else."""
    readme = (real_data / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (?:SL|QA|C)[^|]*\|[^|]*\| (?:partial|sample) \| (\w+)", readme, re.M)
    local = load_suite(str(LOCAL), FORMATS, real_data)
    marked = {name for name, info in local.info.items() if "part" in info}
    # The catalogue itself takes QED's development set only, which is there.
    assert marked == set(listed) - {"qed"}
