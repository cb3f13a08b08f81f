"""A finished run on a split: the scores of the report, in detail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import mtlplug
from mtlplug.errors import MtlplugError
from mtlplug.results.evaluate import Evaluation, evaluate_run
from mtlplug.results.report import print_evaluation
from mtlplug.scoring import confusions
from tests import small_suite
from tests.small_suite import command
from tests.training.runs import read


@pytest.fixture(scope="module")
def evaluations(runs: tuple[Path, Path]) -> dict[str, Evaluation]:
    """The good run on the validation rows of each of its tasks."""
    return {name: evaluate_run(runs[0], name) for name in ("tags", "spans", "kinds")}


def test_scores_are_those_of_the_report(
    evaluations: dict[str, Evaluation], runs: tuple[Path, Path]
) -> None:
    """The same rows give the same metrics and loss as the best epoch had."""
    for name, task in read(runs[0], "report.json")["tasks"].items():
        metrics = evaluations[name].metrics
        assert metrics["loss"] == pytest.approx(task["loss"], abs=1e-5)
        assert {k: v for k, v in metrics.items() if k != "loss"} == pytest.approx(task["metrics"])


def test_parts_make_the_whole(evaluations: dict[str, Evaluation]) -> None:
    """Counts of all rows give the metrics; parts by length have all rows."""
    for each in evaluations.values():
        assert each.metrics_of(range(8))[each.headline] == pytest.approx(
            each.metrics[each.headline]
        )
        assert sum(rows for _, rows, _ in each.by_length()) == len(each.rows) == 8


def test_a_row_that_counts_twice(evaluations: dict[str, Evaluation]) -> None:
    """Naming all rows twice changes no metric; naming one alone gives its own."""
    for each in evaluations.values():
        twice = each.metrics_of([*range(8), *range(8)])
        assert twice == pytest.approx(each.metrics_of(range(8)))
    kinds = evaluations["kinds"]
    right = [row.predictions == row.references for row in kinds.rows]
    assert [kinds.metrics_of([n])["accuracy"] == 100 for n in range(8)] == right


def test_windows_of_a_row_stay_together(suite: Path) -> None:
    """Rows of several features are one row, with all their windows; changes by --set are kept."""
    folder = suite.parent / "narrow"
    narrow = (("max_length", 12), ("stride", 2), ("max_question", 2))
    more = [each for key, value in narrow for each in
            ("--set", f"tasks.spans.options.{key}={value}")]  # fmt: skip
    done = command("run", "--groups", "QA", "--suite", suite, "--output", folder,
                   "--max-epochs", "1", *more)  # fmt: skip
    assert done.exit_code == 0, done.output
    found = evaluate_run(folder, "spans")
    assert len(found.rows) == 8
    assert max(len(row.predictions) for row in found.rows) > 1
    assert found.metrics_of(range(8))["f1"] == pytest.approx(found.metrics["f1"])


def test_errors_name_file_and_line(runs: tuple[Path, Path]) -> None:
    """Wrong rows come with place, text, gold and prediction, the highest loss first."""
    found = evaluate_run(runs[1], "kinds").errors(100)
    assert found
    assert all("kinds/valid.tsv, line" in str(each["where"]) for each in found)
    assert all(each["gold"] != each["predicted"] for each in found)
    losses = [each["loss"] for each in found]
    assert losses == sorted(losses, reverse=True)


def test_what_was_cut_has_its_own_score(suite: Path, runs: tuple[Path, Path]) -> None:
    """Rows that lost words are scored beside those that lost nothing."""
    folder = suite.parent / "short"
    done = command("run", "--groups", "tags", "--suite", suite, "--output", folder,
                   "--max-epochs", "1", "--max-length", "10")  # fmt: skip
    assert done.exit_code == 0, done.output
    parts = {name: rows for name, rows, _ in evaluate_run(folder, "tags").by_repair()}
    assert parts["words cut"] + parts["nothing"] == 8
    assert evaluate_run(runs[0], "tags").by_repair() == []


def test_a_split_that_has_other_rows_now(suite: Path, tmp_path: Path) -> None:
    """Its scores are not those of the report, which is said."""
    mine = small_suite.write(tmp_path)
    folder = tmp_path / "run"
    done = command("run", "--groups", "kinds", "--suite", mine, "--output", folder,
                   "--max-epochs", "1")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "the run was trained" not in command("evaluate", folder, "--task", "kinds").stdout
    file = tmp_path / "kinds" / "valid.tsv"
    header, first, *others = file.read_text().splitlines(keepends=True)
    file.write_text("".join([header, others[0], *others]))
    shown = " ".join(command("evaluate", folder, "--task", "kinds").stdout.split())
    assert "the rows of this split, or how they are read, have changed since" in shown
    file.write_text("".join([header, first, *others[:2]]))
    shown = command("evaluate", folder, "--task", "kinds").stdout
    assert "when the run was trained the split had 8 rows" in shown


def test_the_command(runs: tuple[Path, Path]) -> None:
    """Tables for people, JSON for programs, with the same figures."""
    arguments = ("evaluate", runs[1], "--task", "kinds", "--compare", runs[0])
    shown, told = command(*arguments), command(*arguments, "--json")
    assert shown.exit_code == told.exit_code == 0
    values = json.loads(told.stdout)
    assert f"{values['metrics']['accuracy']:.2f}" in shown.stdout
    assert values["differences"][0]["metric"] == "accuracy"
    assert "paired bootstrap" in shown.stdout
    assert "confusions" in shown.stdout


def test_a_head_without_mistakes(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """It has no confusions, and no table of them."""
    evaluation = evaluate_run(runs[1], "kinds")
    wrong = confusions({("yes", "yes"): 3, ("no", "no"): 5})
    print_evaluation(replace(evaluation, details=[wrong]), errors=0)
    shown = capsys.readouterr().out
    assert "accuracy" in shown
    assert wrong.title not in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--task", "tag"), "has no task 'tag' (did you mean 'tags'?)"),
        (("--task", "tags", "--split", "test"), "has no split 'test'"),
        (("--task", "tags", "--suite", "demo"), "has no task 'tags' any more"),
    ],
)
def test_what_is_not_there(runs: tuple[Path, Path], arguments: tuple[str, ...], said: str) -> None:
    """One sentence, exit code 2."""
    result = command("evaluate", runs[0], *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_an_unfinished_run(unfinished: Path) -> None:
    """It has no heads to score."""
    with pytest.raises(MtlplugError, match="not complete"):
        mtlplug.Run(unfinished).evaluate("tags")
