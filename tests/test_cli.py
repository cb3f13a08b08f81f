"""The command line: quick help, spellings of options, and what is said about tasks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import mtlplug
from tests import small_suite
from tests.small_suite import command, outside

HELP = """
import sys, time
started = time.process_time()
from mtlplug.cli import main
try:
    main(sys.argv[1:], prog_name="mtlplug")
except SystemExit:
    print("cpu", time.process_time() - started)
    print("heavy", sorted({"torch", "numpy", "transformers", "deepspeed"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small suite."""
    return small_suite.write(tmp_path_factory.mktemp("suite"))


# ---- help and version ----


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["run"]])
def test_help_is_quick(arguments: list[str]) -> None:
    """Help, and a missing option, cost under 0.5 s of processor time and import nothing heavy."""
    times = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", HELP, *arguments],
            capture_output=True, text=True, check=True, env=outside(),
        )  # fmt: skip
        said = dict(line.split(" ", 1) for line in done.stdout.splitlines()[-2:])
        assert said["heavy"] == "[]"
        times.append(float(said["cpu"]))
        if times[-1] < 0.5:
            break
    assert "Usage: mtlplug" in done.stdout + done.stderr
    assert min(times) < 0.5


def test_the_check_for_heavy_imports_can_fail() -> None:
    """What was imported on the way to the help is seen."""
    done = subprocess.run(
        [sys.executable, "-c", f"import numpy{HELP}", "--help"],
        capture_output=True, text=True, check=True, env=outside(),
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "heavy ['numpy']"


def test_version() -> None:
    """`python -m mtlplug` is `mtlplug`."""
    done = subprocess.run(
        [sys.executable, "-m", "mtlplug", "--version"],
        capture_output=True, text=True, check=True, env=outside(),
    )  # fmt: skip
    assert done.stdout == f"mtlplug, version {mtlplug.__version__}\n"


@pytest.mark.parametrize("option", ["--batch-size", "--batch_size"])
def test_an_option_that_is_no_number(option: str) -> None:
    """Exit code 2 with the option named, whether written with '-' or '_'."""
    result = command("run", "--groups", "SL", option, "many")
    assert result.exit_code == 2
    assert "--batch-size" in result.stderr
    assert "'many' is not a valid integer" in result.stderr


# ---- looking at tasks ----


def test_plugins() -> None:
    """Every plugin is listed with distribution, version and formats."""
    output = command("plugins").stdout
    for name, title in (("sl", "SL (sequence labelling)"), ("c", "C (classification)")):
        (line,) = [line for line in output.splitlines() if f"│ {name} " in line]
        assert all(part in line for part in ("mtlplug", mtlplug.__version__, title, "ok"))


def test_tasks(suite: Path) -> None:
    """Every task is listed with rows, labels and lengths, and every group with its tasks."""
    result = command("tasks", "--suite", suite)
    assert result.exit_code == 0
    cells = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in result.stdout.splitlines()
        if "│" in line
    ]
    rows = {name: rest for name, *rest in cells}
    # Words and two special tokens; QA has the question's two tokens and a third special one.
    assert rows["tags"][:7] == ["SL", "pretrain", "3", "24", "8", "24", "10"]
    assert rows["spans"][:7] == ["QA", "pretrain", "-", "24", "8", "24", "13"]
    assert rows["kinds"][:7] == ["C", "pretrain", "2", "24", "8", "24", "10"]
    assert "group words: tags, kinds" in result.stdout
    assert "group SL: tags" in result.stdout


def test_tasks_of_a_group(suite: Path) -> None:
    """Only the tasks asked for are read."""
    output = command("tasks", "--suite", suite, "--groups", "C").stdout
    assert "│ kinds" in output
    assert "│ tags" not in output


def test_inspect_labelled_words(suite: Path) -> None:
    """A row as the file has it, then its tokens, the positions read and the target by name."""
    data = suite.parent / "tags" / "train.conll"
    sentence = data.read_text().split("\n\n")[0].splitlines()
    words, tags = zip(*(line.split() for line in sentence), strict=True)
    result = command("inspect", "tags", "-n", "1", "--suite", suite)
    assert result.exit_code == 0
    assert "tags/train.conll, line 1" in result.stdout
    assert f"tokens ({len(words) + 2})  [CLS] {' '.join(words)} [SEP]" in result.stdout
    assert f"reads  ({len(words)})  1-{len(words)}\n" in result.stdout
    assert f"= {' '.join(tags)}" in result.stdout


def test_inspect_a_question(suite: Path) -> None:
    """QA reads the first token and the context; the target is where the answer starts and ends."""
    output = command("inspect", "spans", "-n", "2", "--split", "valid", "--suite", suite).stdout
    first, second = output.split("entry 2")
    assert "feature 1" in first
    assert "feature 1" in second
    assert "[SEP]" in first
    assert "reads  (7)  0, 4-9" in first
    assert "target  [2, 2]" in first


def test_inspect_counts_what_is_cut(suite: Path) -> None:
    """What truncation took is said below the row."""
    arguments = ("inspect", "kinds", "-n", "5", "--suite", suite, "--max-length")
    whole, cut = (command(*arguments, length).stdout for length in ("48", "8"))
    assert "tokens (12)" in whole
    assert "texts cut" not in whole
    assert "tokens (12)" not in cut
    assert cut.count("counted: 1 text cut") == 4


# ---- commands of plugins ----

GREET = """
import click

import mtlplug


@click.command()
@click.argument("name")
def greet(name):
    click.echo(f"hello {name}")


@mtlplug.hookimpl
def mtlplug_commands():
    return {"greet": greet, NAME: greet}
"""


def test_mtlplug_commands_of_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mtlplug greet` runs it; ours do not look for plugins, and none may take their names."""

    def given(name: str) -> None:
        plugin = tmp_path / f"brings_{name.replace(' ', '_')}.py"
        plugin.write_text(GREET.replace("NAME", repr(name)))
        monkeypatch.setenv("MTLPLUG_GIVEN_PLUGINS", json.dumps([str(plugin)]))

    given("wave")
    assert command("greet", "you").stdout == "hello you\n"
    unknown = command("great", "you")
    assert unknown.exit_code == 2
    assert "No such command 'great'" in unknown.stderr
    given("run")
    refused = command("greet", "you")
    assert refused.exit_code == 2
    assert "command 'run' of plugin" in refused.stderr
    assert "has the name of one that comes with mtlplug" in refused.stderr
    given("a b")
    assert "command 'a b' has no plain name" in command("greet", "you").stderr
    assert command("run", "--help").exit_code == 0  # which loads no plugin
