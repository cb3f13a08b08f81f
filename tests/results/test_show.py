"""A run in the terminal: what is done, what it learnt, what it cost; unfinished runs too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mtlplug.errors import MtlplugError
from mtlplug.results.records import read_record
from mtlplug.results.tables import HEADLINE, MOST_EPOCHS, epoch_table, steps_planned, task_table
from mtlplug.study.ledger import Ledger
from tests.small_suite import command
from tests.training.runs import read, run


def test_a_finished_run(runs: tuple[Path, Path]) -> None:
    """Every task with its share, the scores of the report in bold, and the cost."""
    result = command("show", runs[0])
    assert result.exit_code == 0
    report = read(runs[0], "report.json")
    assert f"complete after {report['epochs']} epochs, best {report['best_epoch']}" in result.stdout
    for name in ("tags", "spans", "kinds"):
        assert f"│ {name}" in result.stdout
    assert f"{report['tokens']:,}" in result.stdout
    table = epoch_table(read_record(runs[0]), HEADLINE)
    best = {row[0].text: cell.number for row in table.rows for cell in row if cell.best}
    assert best == {name: task["score"] for name, task in report["tasks"].items()}


def test_an_unfinished_run(unfinished: Path) -> None:
    """What is logged is shown, and a line that is on its way is left out."""
    result = command("show", unfinished)
    assert result.exit_code == 0
    assert "not complete" in result.stdout
    assert f"of at most {steps_planned(read_record(unfinished)):,}" in result.stdout


def test_shares_and_steps_are_of_what_the_mix_draws(suite: Path, tmp_path: Path) -> None:
    """A mix that shortens an epoch shortens the run, and gives the tasks other shares."""
    result = run(suite, tmp_path / "run", "--mix", "capped:3", "--max-epochs", "2")
    assert result.exit_code == 0, result.output
    record = read_record(tmp_path / "run")
    assert [task["drawn"] for task in record.tasks.values()] == [3, 3, 3]
    assert steps_planned(record) == record.steps[-1].number
    table = task_table(record)
    shares = [row[table.header.index("% of epoch")].number for row in table.rows]
    assert shares == pytest.approx([100 / 3] * 3)


def test_a_run_that_has_just_begun(unfinished: Path) -> None:
    """Without any score the tasks are shown."""
    (unfinished / "metrics.jsonl").unlink()
    result = command("show", unfinished)
    assert result.exit_code == 0
    assert "nothing is scored yet" in result.stdout
    assert "│ tags" in result.stdout


def test_many_epochs(unfinished: Path) -> None:
    """The first, the last and the best epochs have columns, the others none."""
    scored = {name: {"loss": 1.0, "headline": 5.0} for name in ("tags", "spans", "kinds")}
    lines = [
        {"epoch": n, "event": "validation", "mean_loss": 1.0, "best": n == 15, "scores": scored}
        for n in range(40)
    ]
    text = "\n".join(map(json.dumps, lines)) + "\n"
    (unfinished / "metrics.jsonl").write_text(text, encoding="utf-8")
    header = epoch_table(read_record(unfinished), HEADLINE).header
    assert "16" in header
    assert "40" in header
    assert len(header) == 2 + MOST_EPOCHS + 1


@pytest.mark.parametrize("words", [("show",), ("evaluate", "--task", "tags")])
@pytest.mark.parametrize("name", ["run.json", "report.json"])
def test_a_damaged_file_of_a_run(
    runs: tuple[Path, Path], tmp_path: Path, words: tuple[str, ...], name: str
) -> None:
    """It is named, with what can be done about it where one only looks."""
    folder = shutil.copytree(runs[1], tmp_path / "run")
    text = (folder / name).read_text(encoding="utf-8")
    (folder / name).write_text(text[: len(text) // 2], encoding="utf-8")
    result = command(words[0], folder, *words[1:])
    assert result.exit_code == 2
    assert f"{folder / name} cannot be read (" in result.stderr
    assert "put back a copy of it, or train the run again" in result.stderr


def test_a_report_of_something_else(unfinished: Path) -> None:
    """It is not shown as that of the run."""
    (unfinished / "report.json").write_text("{}", encoding="utf-8")
    with pytest.raises(MtlplugError, match=r"report\.json cannot be read \(it is no report"):
        read_record(unfinished)


def test_the_folder_of_a_study(tmp_path: Path) -> None:
    """What shows a study is named."""
    Ledger(tmp_path).write_study({"settings": {}, "options": {}})
    result = command("show", tmp_path)
    assert result.exit_code == 2
    assert "holds a study, not a run; give it to 'mtlplug study status'" in result.stderr


@pytest.mark.parametrize("what", ["nothing", "damaged"])
def test_what_is_no_run(unfinished: Path, tmp_path: Path, what: str) -> None:
    """A folder without a run, and a damaged log, each end in one sentence."""
    folder = tmp_path if what == "nothing" else unfinished
    (unfinished / "metrics.jsonl").write_text("{\n{}\n", encoding="utf-8")
    result = command("show", folder)
    assert result.exit_code == 2
    assert {"nothing": "holds no run", "damaged": "line 1 is damaged"}[what] in result.stderr
    with pytest.raises(MtlplugError, match="does not exist"):
        read_record(tmp_path / "nowhere")
