"""Tables of a study: figures, marks, what is missing, and the notes that explain it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mtlplug.pages.table import EDGE, INCOMPLETE, PARTIAL, SAME, UNJUDGED, Cell, Table, figure
from mtlplug.study.results import BASELINE, FAILED, MISSING, Column, Trial
from mtlplug.study.tables import chosen_rates, intervals, table_1, table_2
from tests.study.small_results import results_of

SCORES = {
    ("a", BASELINE): [50.0, 51.0, 49.0], ("a", "SL"): [60.0, 61.0, 59.0],
    ("a", "C"): [50.2, 51.0, 49.0],
    ("b", BASELINE): [30.0, 31.0, 29.0], ("b", "SL"): [28.0, None, 20.0], ("b", "C"): [40.0] * 3,
    ("c", BASELINE): [10.0, 12.0, 11.0], ("c", "SL"): [None] * 3, ("c", "C"): [21.0, 20.0, 22.0],
}  # fmt: skip


def texts(table: Table) -> dict[str, dict[str, str]]:
    """By row and header what a reader sees."""
    return {
        row[0].text: {
            name: cell.text + cell.mark for name, cell in zip(table.header, row, strict=True)
        }
        for row in table.rows
    }


def noted(table: Table, start: str) -> str:
    """The note that starts so."""
    (note,) = [note for note in table.notes if note.startswith(start)]
    return note


def test_table_1_figures_marks_and_best() -> None:
    """Mean and deviation; marks for sameness and missing seeds; the best of a row is marked."""
    table = table_1(results_of(SCORES))
    found = texts(table)
    assert table.header == ("target", "metric", "chance", "majority", BASELINE, "SL", "C")
    assert found["a"][BASELINE] == "50.00 ± 1.00"
    assert found["a"]["SL"] == "60.00 ± 1.00"
    assert found["a"]["C"] == f"50.07 ± 1.01{SAME}"
    assert found["b"]["SL"] == f"24.00 ± 5.66{SAME}{INCOMPLETE}"
    assert found["c"]["SL"] == FAILED
    assert (found["a"]["chance"], found["a"]["majority"]) == ("10.00", "20.00")
    best = {row[0].text: [table.header[n] for n, cell in enumerate(row) if cell.best]
            for row in table.rows}  # fmt: skip
    assert best["a"] == ["SL"]
    assert best["b"] == best["c"] == ["C"]
    assert best["average"] == best["average deviation"] == ["C"]
    assert noted(table, SAME)
    assert noted(table, INCOMPLETE) == f"{INCOMPLETE} fewer than 3 seeds: b with SL (2)"
    assert noted(table, "failed") == "failed, and left out: b with SL at 0.0001, seed 2"


def test_table_1_averages_what_all_columns_have() -> None:
    """Target c lacks a column: it is in no average, chance and majority included, and named."""
    results = results_of(SCORES)
    targets = [replace(each, chance=90.0) if each.name == "c" else each for each in results.targets]
    table = table_1(replace(results, targets=tuple(targets)))
    average = texts(table)["average"]
    assert average[BASELINE] == "40.00"
    assert average["SL"] == f"42.00{INCOMPLETE}"
    assert average["C"] == "45.03"
    assert average["chance"] == "10.00"
    assert texts(table)["average deviation"][BASELINE] == "1.00"
    assert "2 of 3 targets" in noted(table, "averages")
    assert "left out: c" in noted(table, "averages")
    whole = table_1(results_of({key: row for key, row in SCORES.items() if key[1] != "SL"}))
    assert texts(whole)["average"][BASELINE] == "30.33"
    assert not [note for note in whole.notes if note.startswith(("averages", INCOMPLETE))]


def test_missing_and_failed_are_told_apart() -> None:
    """What may still come is "-"; a failed encoder fails its whole column and says why."""
    results = results_of(SCORES)
    columns = (
        *results.columns,
        Column("QA", FAILED, error="Traceback\n  ...\nOutOfMemoryError: 2 GiB"),
        Column("SL+QA", MISSING),
    )
    planned = (Trial("SL+QA", "a", 1e-3, 1, FAILED), Trial("SL+QA", "a", 1e-4, 1, MISSING))
    table = table_1(replace(results, columns=columns, trials=(*results.trials, *planned)))
    found = texts(table)
    assert (found["a"]["QA"], found["a"]["SL+QA"]) == (FAILED, "-")
    assert (found["average"]["QA"], found["average"]["SL+QA"]) == ("-", "-")
    assert noted(table, "QA failed") == "QA failed: OutOfMemoryError: 2 GiB"
    assert noted(table, "no score yet") == "no score yet, so without average: QA, SL+QA"


def test_scores_without_spread_are_marked() -> None:
    """Nothing can be said of them, which is not that they differ; the baseline bears no mark."""
    scores = {("a", BASELINE): [50.0, 50.0], ("a", "SL"): [60.0, 60.0], ("a", "C"): [55.0, 61.0]}
    table = table_1(results_of(scores))
    found = texts(table)["a"]
    assert found["SL"] == f"60.00 ± 0.00{UNJUDGED}"
    assert found[BASELINE] == "50.00 ± 0.00"
    assert UNJUDGED not in found["C"]
    assert noted(table, UNJUDGED)


def test_a_single_seed_has_no_deviation_and_no_verdict() -> None:
    """Nothing is marked as the same as the baseline, and a note says why."""
    table = table_1(results_of({("a", BASELINE): [50.0], ("a", "SL"): [50.0]}))
    assert texts(table)["a"]["SL"] == "50.00"
    assert texts(table)["average deviation"]["SL"] == "-"
    assert noted(table, "one seed")


def test_targets_with_a_note_are_marked() -> None:
    """A partial target bears a mark in every table of targets with scores."""
    results = results_of(SCORES)
    targets = (replace(results.targets[0], note="600 of 5,000 rows"), *results.targets[1:])
    for build in (table_1, intervals):
        table = build(replace(results, targets=targets))
        assert table.rows[0][0] == Cell("a", mark=PARTIAL)
        assert noted(table, PARTIAL) == f"{PARTIAL} a: 600 of 5,000 rows"


def test_table_2_averages_groups() -> None:
    """A row is the mean of the group's shared targets; the last row the mean of the rows."""
    groups = {"a": "X", "b": "X", "c": "Y"}
    table = table_2(results_of(SCORES, groups))
    found = texts(table)
    assert found["X"][BASELINE] == "40.00 ± 1.00"
    assert found["X"]["SL"] == f"42.00 ± 3.33{INCOMPLETE}"
    assert found["Y"] == {"targets": "Y", BASELINE: "11.00 ± 1.00", "SL": "-", "C": "21.00 ± 1.00"}
    assert found["average of groups"][BASELINE] == "40.00 ± 1.00"
    without = table_2(results_of({k: v for k, v in SCORES.items() if k[1] != "SL"}, groups))
    assert texts(without)["average of groups"][BASELINE] == "25.50 ± 1.00"


def test_table_2_says_by_group_what_is_left_out() -> None:
    """A target that one column lacks is missing in its group alone; a group, in the last row."""
    groups = {"a": "X", "b": "X", "c": "Y"}
    whole = {(target, name): [1.0, 2.0] for target in groups for name in (BASELINE, "SL", "C")}
    assert not [note for note in table_2(results_of(whole, groups)).notes if "left out" in note]
    lacking = {key: scores for key, scores in whole.items() if key != ("b", "SL")}
    notes = table_2(results_of(lacking, groups)).notes
    assert [note for note in notes if "left out" in note] == [
        "X: averages are over the 1 of 2 targets that all columns with scores have; left out: b"
    ]
    fewer = {key: scores for key, scores in whole.items() if key != ("c", "SL")}
    notes = table_2(results_of(fewer, groups)).notes
    assert [note for note in notes if "left out" in note] == [
        "last row: averages are over the 1 of 2 groups that all columns with scores have; "
        "left out: Y"
    ]


def test_rules_part_groups_and_averages() -> None:
    """A line is drawn where another group of targets begins, and above the averages."""
    results = results_of(SCORES, {"a": "X", "b": "X", "c": "Y"})
    assert table_1(results).rules == (2, 3)
    assert intervals(results).rules == (2,)
    assert table_2(results).rules == (2,)


def test_intervals_hold_their_means() -> None:
    """Every cell with two scores or more has an interval around its mean."""
    table = intervals(results_of(SCORES))
    cells = [cell for row in table.rows for cell in row[1:] if cell.number is not None]
    assert len(cells) == 8
    for cell in cells:
        ends = (cell.low, cell.number, cell.high)
        assert list(ends) == pytest.approx(sorted(ends))
        assert cell.text == f"{cell.low:.2f} to {cell.high:.2f}"
    assert texts(table)["c"]["SL"] == FAILED
    assert texts(table)["b"]["C"] == "40.00 to 40.00"


def test_chosen_rates_mark_the_ends_of_the_sweep() -> None:
    """The best rate of the sweep; at an end of it a better one may lie beyond."""
    results = results_of({("a", BASELINE): [1.0], ("a", "SL"): [1.0], ("a", "C"): [1.0]})
    best = {BASELINE: 1e-4, "SL": 1e-3}
    trials = [
        Trial(column, "a", rate, 1, score=60.0 if best.get(column) == rate else 50.0)
        for column in best
        for rate in (1e-3, 1e-4, 1e-5)
    ]
    trials.append(Trial("C", "a", 1e-3, 1, score=50.0))
    table = chosen_rates(replace(results, trials=tuple(trials), rates=(1e-3, 1e-4, 1e-5)))
    assert texts(table)["a"] == {
        "target": "a", BASELINE: "0.0001", "SL": f"0.001{EDGE}", "C": "-",
    }  # fmt: skip
    assert noted(table, EDGE)
    assert not [note for note in chosen_rates(results).notes if note.startswith(EDGE)]


def test_a_study_that_has_just_begun_has_tables() -> None:
    """No trial is done: every cell is "-", nothing fails."""
    results = replace(results_of(SCORES), trials=())
    for build in (table_1, table_2, intervals, chosen_rates):
        table = build(results)
        assert {cell.text for row in table.rows for cell in row[5:]} <= {"-", ""}


def test_a_row_of_another_width_is_refused() -> None:
    """A table whose rows do not fit its header is a mistake of ours."""
    with pytest.raises(ValueError, match="1 wide, not 2"):
        Table("t", "t", ("a", "b"), ((figure(1.0),),))
