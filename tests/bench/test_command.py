"""`mtlplug bench` on a small suite: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from click.testing import Result

from mtlplug.bench import command as bench_command
from mtlplug.bench.command import paper_of
from mtlplug.bench.lengths import PADDED
from mtlplug.bench.show import cost_table
from mtlplug.workspace import open_workspace
from mtlplug.world import World
from tests import small_suite
from tests.small_suite import command

COMBINATIONS = ["SL", "QA", "C", "SL+QA", "SL+C", "QA+C", "SL+QA+C"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small suite's folder, with the results of a benchmark of all combinations."""
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def suite(folder: Path) -> Path:
    """The file of the suite."""
    path = small_suite.write(folder)
    text = path.read_text()
    for own, of_paper in (("kinds", "cola"), ("spans", "squad")):  # two of three are the paper's
        text = text.replace(f"[tasks.{own}]", f"[tasks.{of_paper}]")
        text = text.replace(f'"{own}"]', f'"{of_paper}"]')
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def result(folder: Path, suite: Path) -> Result:
    """What the command printed."""
    return command(
        "bench", "--suite", suite, "--steps", "3", "--price", "36", "--simulate", "--ranks", "2,4",
        "--json", folder / "bench.json", "--picture", folder / "bench.svg",
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(folder: Path, result: Result) -> dict[str, Any]:
    """What it wrote."""
    assert result.exit_code == 0, result.output
    text = (folder / "bench.json").read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]


def test_all_is_every_combination(report: dict[str, Any]) -> None:
    """`all` is the powerset of the formats' groups, in the order of the suite's tasks."""
    assert [each["groups"] for each in report["combinations"]] == COMBINATIONS


def test_an_epoch_is_all_features(report: dict[str, Any]) -> None:
    """Features, tokens and steps of a combination are the sums of its groups'."""
    costs = {each["groups"]: each for each in report["combinations"]}
    for groups in COMBINATIONS:
        parts = [costs[part] for part in groups.split("+")]
        for name in ("features", "tokens", "tasks"):
            assert costs[groups][name] == sum(part[name] for part in parts)
        assert costs[groups]["steps"] == -(-costs[groups]["features"] // 8)
    assert costs["SL"]["features"] == small_suite.ROWS["train"]


def test_measured_and_derived(report: dict[str, Any]) -> None:
    """What was measured is positive, and what is derived follows from it."""
    for cost in report["combinations"]:
        seconds = cost["epoch_seconds"]
        assert seconds["value"] > 0
        assert seconds["margin"] > 0
        assert cost["price"] == pytest.approx(36 * seconds["value"] / 3600)
        assert cost["utilisation"] == pytest.approx(
            cost["flops_per_second"] / cost["ceilings"]["mean"]
        )
        assert 0 <= cost["padding_avoided"] < 1
        assert 0 < cost["update_share"] < 1
        assert cost["peak_memory"] > 10 * 2**20
        assert set(cost["padded"]) == set(cost["ratios"]) == set(PADDED)
        assert [each["ranks"] for each in cost["predictions"]] == [2, 4]


def test_what_is_printed(result: Result, report: dict[str, Any]) -> None:
    """Tables of cost, of padding and of predictions, with the paper's ratios."""
    for title in ("an epoch of pre-finetuning", "times as long as packed", "predicted from"):
        assert title in result.output
    assert "in paper" in result.output
    assert "4.32" in result.output  # the paper's 4,884 s over 1,131 s


def test_other_suites_are_not_compared_with_the_paper() -> None:
    """No figures of the paper, and no columns for them, where most tasks are not the paper's."""
    workspace = open_workspace({"suite": "collection", "model": "any"})
    assert paper_of(workspace)["epoch_seconds"]
    tasks = workspace.suite.tasks
    own = {name: tasks[name] for name in ("rte", "btc", "weibo_zh")}
    assert paper_of(replace(workspace, suite=replace(workspace.suite, tasks=own))) == {}
    assert paper_of(open_workspace({"suite": "demo"})) == {}
    assert cost_table([], {}).header[-1] == "peak\nmemory"


def test_picture(folder: Path, report: dict[str, Any]) -> None:
    """The picture is an SVG file with a bar for every way of every combination."""
    root = ElementTree.parse(folder / "bench.svg").getroot()
    assert root.tag.endswith("svg")
    bars = [
        element
        for element in root.iter()
        if element.get("id", "").startswith("patch_") and element.tag.endswith("g")
    ]
    assert len(bars) >= len(COMBINATIONS) * (1 + len(PADDED))


def test_chosen_combinations(suite: Path, tmp_path: Path) -> None:
    """Combinations may be named, user's groups and single tasks among them."""
    file = tmp_path / "some.json"
    some = command(
        "bench", "--suite", suite, "--groups", "words, tags+SL", "--steps", "2", "--no-compare",
        "--json", file,
    )  # fmt: skip
    assert some.exit_code == 0, some.output
    costs = json.loads(file.read_text(encoding="utf-8"))["combinations"]
    assert [each["groups"] for each in costs] == ["words", "tags+SL"]
    assert [each["padded"] for each in costs] == [{}, {}]
    assert "times as long" not in some.output


def test_simulation_starts_from_one_rank(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What several ranks take holds their communication already."""
    monkeypatch.setattr(bench_command, "start", lambda: World(0, 2, torch.device("cpu")))
    refused = command("bench", "--suite", suite, "--simulate")
    assert refused.exit_code == 2
    assert "start the command without a launcher" in refused.output


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--steps", "1"], "--steps is 1; an interval needs 2 or more"),
        (["--price", "-1"], "--price is -1.0; it must be 0 or more"),
        (["--groups", "SL,X"], "unknown group 'X'"),
        (["--groups", "SL,,C"], "lacks a group"),
        (["--simulate", "--ranks", "8,x"], "--ranks is '8,x'; write whole numbers above 0"),
        (["--simulate", "--bandwidth", "0"], "--bandwidth 0 must be above 0"),
        (["--picture", "a.jpg"], "--picture a.jpg is neither .svg nor .png"),
        (["--json", "none/a.json"], "folder none does not exist; make it"),
    ],
)
def test_wrong_input(suite: Path, options: list[str], sentence: str) -> None:
    """One sentence and exit code 2, before anything is measured."""
    refused = command("bench", "--suite", suite, *options)
    assert refused.exit_code == 2
    assert sentence in refused.output
    assert "Traceback" not in refused.output
