"""Pages that are walked: their files and commands, in order, in one folder, and what is printed.

`<!-- file: NAME -->` above a block writes it, `<!-- run -->` runs it, and `<!-- prints -->` stands
above what that printed. In other blocks a line that begins with `$ ` is a command, and what follows
it what it prints; `...` stands for anything.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.shown import BLOCK, fits, main
from tests.small_suite import command, outside

DOCS = Path(__file__).resolve().parents[1] / "docs"
WALKED = ("own-data.md", "configuration.md", "looking-at-a-run.md", "using-a-run.md")


class Printed(NamedTuple):
    """What a page says that a command prints, and what it printed."""

    page: str
    command: str
    shown: str
    found: str


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a block, each with what is shown below it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, shown = part.partition("\n")
        yield line, shown


def run(line: str) -> str:
    """What a command prints: ours in this process, which has imported all it needs."""
    words = shlex.split(line)
    if words[0] == "mtlplug":
        return command(*words[1:]).output
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(words, capture_output=True, text=True, env=outside(PATH=path))
    assert done.returncode == 0, line + done.stderr
    return done.stdout


def run_block(language: str, text: str) -> str:
    """What the commands, or the Python code, of a block print."""
    if language != "python":
        return "".join(map(run, text.splitlines()))
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(text, {})
    return said.getvalue()


def walk(page: str) -> Iterator[Printed]:
    """Do what a page says."""
    said = ""
    for mark, language, text in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")):
        if mark.startswith("file: "):
            Path(mark.removeprefix("file: ")).write_text(text, encoding="utf-8")
        elif mark == "run":
            said = run_block(language, text)
        elif mark == "prints":
            yield Printed(page, "the block above", text, said)
        else:
            for line, shown in commands(text):
                yield Printed(page, line, shown, run(line))


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> list[Printed]:
    """What all pages show."""
    with contextlib.chdir(tmp_path_factory.mktemp("walk")):
        found = [each for page in WALKED for each in walk(page)]
    demo = re.compile(rf"{re.escape(str(cache))}/demo-\w+")
    return [each._replace(found=demo.sub("DEMO", each.found)) for each in found]


@pytest.mark.parametrize("page", WALKED)
def test_commands_print_what_the_page_shows(walked: list[Printed], page: str) -> None:
    """Every one: words and whole numbers to the letter, fractions nearly, times not at all."""
    mine = [each for each in walked if each.page == page]
    assert mine
    for each in mine:
        assert fits(each.shown, each.found), f"{each.command} prints:\n{each.found}"


def test_what_is_shown_is_walked() -> None:
    """All pages with commands and what they print are, and no other."""
    pages = [DOCS.parent / "README.md", *DOCS.rglob("*.md")]
    texts = {page.name: BLOCK.findall(page.read_text(encoding="utf-8")) for page in pages}
    showing = {name for name, blocks in texts.items() if any(list(commands(b[2])) for b in blocks)}
    assert showing == {*WALKED}


def test_what_fits() -> None:
    """The comparison takes other times and a last digit, and nothing else."""
    table = "┃ f1 ┃ 97.44 ┃ rows 80\nspeed 4,207 tokens/s in 3 min 56 s\nend"
    assert fits(table, table)
    assert fits(table, "f1 97.41 rows 80\nspeed 17 tokens/s in 2.1 s\nend")
    assert fits("...\nspeed\n...\nend", table.replace("in", "\nend in"))
    for wrong in ("80", "end", "f1", "97.44", "speed"):
        assert not fits(table, table.replace(wrong, "7"))
    assert fits("┃ f1\n...", table)
    assert not fits("97.44\n...", table)
    assert not fits("...\nspeed", table)
    assert fits(table, table.replace("end", "[2026-11-27 19:35:02,532] [INFO] of DeepSpeed\nend"))
    assert fits("loss 0.07", "loss 0.16", within=0.1)
    assert not fits("loss 0.07", "loss 0.16")


def test_a_printed_file_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `.ci/run` does with the README's main job; what comes first may be anything."""
    page, file = tmp_path / "page.md", tmp_path / "file.txt"
    page.write_text("<!-- prints -->\n```\none 1\ntwo 2.0\n```\n")
    file.write_text("Collecting torch\none 1\ntwo 2.1\n")
    assert main(str(page), str(file)) == 0
    file.write_text("Collecting torch\none 1\ntwo 2.5\n")
    assert main(str(page), str(file)) == 1
    assert capsys.readouterr().out == f"{page} shows what was not printed:\ntwo 2.0\n"
