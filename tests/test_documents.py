"""README and documents tell the truth about what they show."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mtlplug.cli import main
from mtlplug.data.suites import load_suite
from mtlplug.plugin_manager import load_plugins

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(page: Path, *languages: str) -> list[str]:
    """Code blocks of these languages."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [code for language, code in found if language in languages]


def prose(page: Path) -> str:
    """A page without its code."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    return re.sub(r"`[^`]*`", "", text)


def anchors(page: Path) -> set[str]:
    """What a link may name on a page, as GitHub and mkdocs make it of headings."""
    titles = re.findall(
        r"^#+ +(.*)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pages
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file of the repository, and a heading that is there."""
    wrong = []
    for link, anchor in re.findall(r"\]\(([^)#\s]*)(#[^)\s]*)?\)", prose(page)):
        if "://" in link:
            continue
        target = (page.parent / link).resolve() if link else page
        known = target.exists() and target.is_relative_to(ROOT)
        if not known or (anchor and anchor[1:] not in anchors(target)):
            wrong.append(link + anchor)
    assert wrong == []


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every `mtlplug` command in a page's blocks."""
    for code in blocks(page, "", "bash", "sh"):
        for line in code.replace("\\\n", " ").splitlines():
            words = re.split(r"(?:^|\s)(?:mtlplug|mtlplug/run\.py|-m mtlplug)\s", line, maxsplit=1)
            if len(words) == 2 and re.match(r"(OMP|[a-z.$]|/)", line.strip()):
                run = ["run"] if "mtlplug/run.py" in line else []
                yield [*run, *shlex.split(words[1].rstrip(" '"), comments=True)]


@pages
def test_commands_shown_exist(page: Path) -> None:
    """Every `mtlplug` command is one, and has every option it is shown with."""
    for words in commands(page):
        command: click.Command = main
        rest = list(words)
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            assert rest[0] in command.commands, words
            command = command.commands[rest.pop(0)]
        known = {
            name for option in command.params for name in (*option.opts, *option.secondary_opts)
        }
        known |= {"-h", "--help"}
        shown = {word.split("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        assert {name.replace("_", "-") for name in shown} - known == set(), words


@pages
def test_code_shown_can_be_read(page: Path) -> None:
    """Python compiles, JSON and TOML parse."""
    for code in blocks(page, "python"):
        compile(code, page.name, "exec")
    for code in blocks(page, "json"):
        json.loads(code)
    for code in blocks(page, "toml"):
        tomllib.loads(code)


@pages
def test_suites_shown_are_suites(page: Path, tmp_path: Path) -> None:
    """Every suite of installed formats loads, and its groups can be selected."""
    formats = load_plugins().formats
    for number, code in enumerate(blocks(page, "toml")):
        tasks = tomllib.loads(code).get("tasks", {})
        if not tasks or not all(task.get("format") in formats for task in tasks.values()):
            continue
        path = tmp_path / f"suite{number}.toml"
        path.write_text(code, encoding="utf-8")
        suite = load_suite(str(path), formats)
        for group, names in suite.groups.items():
            assert not names or suite.select(group)


def test_the_format_shown_is_the_example() -> None:
    """The plugin in the README is, letter for letter, the one in `examples/`."""
    example = ROOT / "examples" / "mtlplug-regression" / "mtlplug_regression.py"
    assert example.read_text(encoding="utf-8") in blocks(PAGES[0], "python")
