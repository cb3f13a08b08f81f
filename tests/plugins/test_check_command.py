"""`mtlplug plugins check`: the contract suite outside pytest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtlplug.plugins import check
from mtlplug.testing import FormatContract, trials
from tests import small_suite

BROKEN = """
import mtlplug
from mtlplug_c import Classification


class Upside(Classification):
    code = "UPSIDE"

    def decode(self, task, scores, splits):
        return [task.labels[number] for number in scores.argmin(-1).tolist()]


@mtlplug.hookimpl
def mtlplug_task_formats():
    return [Upside()]
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite with a task of the broken format."""
    folder = tmp_path_factory.mktemp("suite")
    path = small_suite.write(folder)
    path.write_text(path.read_text().replace('"C"', '"UPSIDE"'))
    (folder / "upside.py").write_text(BROKEN)
    return path


def test_one_line_for_each_check(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passed, not checked and failed are told apart; a failure says what to change; exit code 1."""
    for name in ("check_ranks", "check_resume"):  # processes of their own; tests/plugins has them
        monkeypatch.setattr(trials, name, lambda *_: None)
    given = ("-p", suite.parent / "upside.py", "--suite", suite)
    result = small_suite.command("plugins", "check", "UPSIDE", *given)
    assert result.exit_code == 1, result.output
    title, *lines, last = result.stdout.splitlines()
    assert title == "format UPSIDE, 8 rows of task 'kinds'"
    number = len([name for name in dir(FormatContract) if name[:5] == "test_"])
    marked = [line for line in lines if line.startswith(("ok ", "note ", "bad "))]
    assert [line for line in marked if line[:2] != "ok"] == [
        "bad   rows learnt by heart score best",
        "note  uncounted features have no loss (not checked: no rows are given as uncounted)",
    ]
    assert (len(marked), last) == (number, f"{number} checks: {number - 2} ok, 1 note, 1 bad")
    assert "decode or metrics read scores otherwise" in " ".join(result.stdout.split())

    monkeypatch.setattr(check, "ScoreTests", type("None", (), {}))
    result = small_suite.command("plugins", "check", "upside", *given, "--json")
    assert result.exit_code == 0, result.output
    checks = json.loads(result.stdout)["checks"]
    assert checks[0] == {
        "name": "the format is declared",
        "status": "ok",
        "found": checks[0]["found"],
        "remedy": "",
        "facts": {},
    }


def test_rows_of_several_answers_are_checked() -> None:
    """A task nearly all of one answer gives rows of others, too, and the same at every call."""
    rows = [{"text": f"t{n}", "label": "spam" if n % 50 == 7 else "ham"} for n in range(500)]
    drawn = check._drawn(rows, ("text", "label"))
    assert len(drawn) == check.ROWS == len({row["text"] for row in drawn})
    assert {row["label"] for row in drawn} == {"ham", "spam"}
    assert drawn == check._drawn(rows, ("text", "label"))
    tags = [{"tokens": ["a"] * n, "tags": ["O"] * n} for n in range(1, 300)]
    tags[40] = {"tokens": ["Ann"], "tags": ["B-PER"]}
    assert tags[40] in check._drawn(tags, ("tokens", "tags"))
    assert len(check._drawn(rows[:3], ("text", "label"))) == 3
    assert len(check._drawn(rows, ())) == check.ROWS
    books = [{"text": "word " * 5000 + str(n), "label": "ham"} for n in range(20)]
    assert len(check._drawn(books, ("text", "label"))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("X",), "unknown format or plugin 'X'"),
        (("SL", "--task", "kinds"), "unknown task of format SL 'kinds'; known: tags"),
        (("UPSIDE", "--suite", "demo"), "no task of format UPSIDE in suite demo"),
        (("qa", "-p", "no:qa"), "plugin 'qa' brings no format; its status is: off"),
    ],
)
def test_what_cannot_be_checked(suite: Path, arguments: tuple[str, ...], message: str) -> None:
    """An unknown name, or a format without a task, is one sentence and exit code 2."""
    given = ("-p", suite.parent / "upside.py", "--suite", suite)
    result = small_suite.command("plugins", "check", *given, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
