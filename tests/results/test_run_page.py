"""The page of a run: self-contained, escaped, complete, for unfinished runs too."""

from __future__ import annotations

import json
import re
import shlex
from html import unescape
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

from mtlplug.cli import run as run_command
from mtlplug.option_values import tables
from mtlplug.pages.charts import DIGIT
from mtlplug.repeating import command_of
from mtlplug.results.page import MOST_POINTS, page
from mtlplug.results.records import Step, read_record
from tests.small_suite import command
from tests.study.test_page_browser import WIDTHS, open_in_browser

EVIL = "<script>planted = 1</script>"


def test_the_page_holds_the_run(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """It is written whole, fetches nothing, and has every task, score and chart."""
    file = tmp_path / "run.html"
    result = command("show", runs[0], "--html", file)
    assert result.exit_code == 0
    text = file.read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=.?(?!#)[^#\s>]*:", text)
    assert "<script" not in text
    for name in ("tags", "spans", "kinds"):
        assert f"<summary>{name}</summary>" in text
    assert "Mean validation loss" in text
    assert "training loss by step" in text
    assert not list(tmp_path.glob("*.tmp"))
    assert '<th scope="col" class="word"></th>' not in text  # no heading without a word
    (told,) = re.findall(r'<pre class="wrap">(.*?)</pre>', text, re.DOTALL)
    assert max(map(len, told.splitlines())) < 200
    words = command_of(read_record(runs[0]).run["options"])
    assert shlex.split(unescape(told).replace("\\\n", "")) == words


def test_names_of_axes_are_whole(runs: tuple[Path, Path]) -> None:
    """Upright ones are written around a middle, from which the edge must be far enough."""
    upright = re.findall(r"rotate\(-90 11 ([\d.]+)\)\">([^<]*)", page(read_record(runs[0])))
    assert "learning rate × 10⁶" in {name for _, name in upright}
    assert [name for middle, name in upright if len(name) * DIGIT > 2 * float(middle)] == []


def test_nothing_of_a_run_is_taken_for_html(unfinished: Path) -> None:
    """Options and names of tasks are escaped."""
    run = json.loads((unfinished / "run.json").read_text(encoding="utf-8"))
    run["options"]["groups"] = EVIL
    run["tasks"][EVIL] = run["tasks"].pop("tags")
    (unfinished / "run.json").write_text(json.dumps(run), encoding="utf-8")
    assert EVIL not in page(read_record(unfinished))


def test_a_page_that_cannot_be_written(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """It ends in one sentence."""
    result = command("show", runs[0], "--html", tmp_path / "nowhere" / "run.html")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_the_command_repeats_the_run(runs: tuple[Path, Path]) -> None:
    """Every option of it is one that the command takes, changes of tasks and plugins too."""
    options = {**read_record(runs[0]).run["options"], "tasks": {"tags": {"options": {"a": True}}}}
    options |= {"cuda_graphs": False, "patience": 0}
    words = command_of(options, ["a b.py", "no:c"])
    known = {n for each in run_command.params for n in (*each.opts, *each.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= known
    set_to = [value for word, value in pairwise(words) if word == "--set"]
    assert set_to == ["gradient_checkpointing=false", "tasks.tags.options.a=true"]
    assert words[words.index("--learning-rate") + 1] == "0.02"
    assert words[words.index("--patience") + 1] == "0"
    assert "--no-cuda-graphs" in words
    assert words[-4:] == ["-p", "a b.py", "-p", "no:c"]


def test_changes_of_tasks_come_back_as_they_were() -> None:
    """Whatever their values are: `--set` reads them as TOML."""
    odd = ["\t", "a\\b", 'it\'s "so"', "naïve", "a b", "3", "true", ""]
    values = {
        "texts": odd,
        "columns": {"Some Column": "a", "a.b": 1.5},
        "on": [True, False],
        "n": 3,
    }
    tasks = {"tags": {"separator": "\t", "options": values, "parts": [{"path": "x"}]}}
    words = command_of({"tasks": tasks})
    given = tuple(value for word, value in pairwise(words) if word == "--set")
    assert tables(None, None, given) == {"tasks": tasks}


def test_the_command_of_a_run_on_two_ranks(unfinished: Path) -> None:
    """It starts two."""
    run = json.loads((unfinished / "run.json").read_text(encoding="utf-8"))
    (unfinished / "run.json").write_text(json.dumps(run | {"world_size": 2}), encoding="utf-8")
    assert "torchrun --nproc-per-node 2 -m mtlplug run --groups" in page(read_record(unfinished))


def test_a_long_log_stays_small(runs: tuple[Path, Path]) -> None:
    """A line has a bounded number of points."""
    record = read_record(runs[0])
    object.__setattr__(record, "steps", [Step(n, {"loss": 1 / n}) for n in range(1, 100_001)])
    lines = re.findall(r'<polyline class="line" points="([^"]*)"', page(record))
    assert max(len(line.split()) for line in lines) == MOST_POINTS


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("PyQt6") is None or find_spec("PyQt6.QtWebEngineCore") is None,
    reason="no browser: pip install 'mtlplug[browser]'",
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(runs: tuple[Path, Path], scheme: str) -> None:
    """Quiet, in the reader's colours, legible, and never wider than the screen."""
    found = open_in_browser(page(read_record(runs[0])), scheme)
    assert found["console"] == []
    assert {request.split(":")[0] for request in found["requests"]} == {"file"}
    for at, width in zip(found["at"], WIDTHS, strict=True):
        for state in ("closed", "opened"):
            assert at[state]["scroll"] <= width
            assert at[state]["wide"] == []
            assert at[state]["dark"] == (scheme == "dark")
        assert at["closed"]["letters"] >= 11
        assert at["opened"]["open"] == 3
        assert at["unreachable"] == 0
