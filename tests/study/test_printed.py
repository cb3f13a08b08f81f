"""The paper's figures: which of its aggregates follow, what its rows say, and ours beside them."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from importlib.resources import files

import pytest

from mtlplug.pages.table import WRONG
from mtlplug.study.aggregates import Summary
from mtlplug.study.printed import beside, check_printed, key_of, load_printed, printed_checks
from mtlplug.study.results import BASELINE
from mtlplug.study.statistics import compare
from mtlplug.study.tables import table_1, table_2
from tests.study.small_results import results_of

COLUMNS = (BASELINE, "SL", "C", "QA", "SL+C", "SL+QA", "QA+C", "SL+QA+C")


def column(name: str) -> list[float]:
    """A column of Table 1."""
    return [each.mean for (_, there), each in load_printed().grid.items() if there == name]


def flagged(table: str, row: str) -> set[str]:
    """Columns in which a printed aggregate does not follow."""
    checks = [each for each in check_printed() if (each.table, each.row) == (table, row)]
    assert len(checks) == 8
    return {each.column for each in checks if not each.follows}


def test_all_of_both_tables_is_there() -> None:
    """Twelve targets in three groups of four, eight columns, and figures known from the print."""
    paper = load_printed()
    assert paper.columns == COLUMNS
    assert len(paper.grid) == 12 * 8
    assert {group: len(names) for group, names in paper.groups.items()} == {
        "SL": 4,
        "C": 4,
        "QA": 4,
    }
    assert paper.grid["wnut17", BASELINE] == Summary(63.239, 0.33)
    assert paper.grid["cb", "QA"] == Summary(68.930, 10.65)
    assert paper.grid["xquad_r", "SL+QA+C"] == Summary(80.163, 0.51)
    assert paper.seconds_per_epoch[key_of("SL+C+QA")] == 4884


def test_targets_are_named_as_in_the_suite() -> None:
    """The printed targets are those of the paper's suite, each in the group of its format."""
    text = files("mtlplug.suites").joinpath("padmakumar2022.toml").read_text(encoding="utf-8")
    tasks = tomllib.loads(text)["tasks"]
    targets = {name: task["format"] for name, task in tasks.items() if task["role"] == "target"}
    printed = {name: group for group, names in load_printed().groups.items() for name in names}
    assert printed == targets


def test_aggregates_that_follow() -> None:
    """Average deviations and the rows for C follow from Table 1, all but one for SL, too."""
    assert flagged("Table 1", "Average Std. Dev.") == set()
    assert flagged("Table 2", "Unseen C") == set()
    assert flagged("Table 2", "Unseen SL") == {"SL+QA"}


def test_aggregates_that_do_not_follow() -> None:
    """The rows for QA and the averages of Table 1 are flagged in every column."""
    assert flagged("Table 2", "Unseen QA") == set(COLUMNS)
    assert flagged("Table 1", "Average") == set(COLUMNS)


def test_the_printed_average_is_of_the_group_means() -> None:
    """It follows from Table 2's own rows but where one of these is wrong."""
    assert flagged("Table 2", "Average") == {"SL+QA"}
    paper = load_printed()
    grid = {**paper.by_group, ("SL", "SL+QA"): Summary(81.165)}
    mended = check_printed(replace(paper, by_group=grid))
    assert all(each.follows for each in mended if each.table == "Table 2" and "QA" not in each.row)


def test_computed_figures() -> None:
    """What the rows give where the print says something else."""
    found = {(each.row, each.column): each for each in check_printed()}
    assert found["Unseen SL", "SL+QA"].computed == pytest.approx(81.166, abs=1e-3)
    assert found["Unseen SL", "SL+QA"].printed == 80.165
    assert found["Unseen QA", BASELINE].computed == pytest.approx(52.320, abs=1e-3)
    averages = [
        each for each in check_printed() if each.table == "Table 1" and each.row == "Average"
    ]
    assert averages[0].computed == pytest.approx(66.855, abs=1e-3)


def test_a_changed_figure_is_flagged() -> None:
    """A cell of four may be off by what printed places allow; by 0.02 more it is noticed."""
    paper = load_printed()

    def wrong(change: float) -> int:
        grid = dict(paper.grid)
        grid["boolq", BASELINE] = Summary(73.804 + change, 1.15)
        checks = check_printed(replace(paper, grid=grid))
        return sum(not each.follows for each in checks if each.row == "Unseen C")

    assert [wrong(0.0), wrong(-0.001), wrong(0.02), wrong(-0.02)] == [0, 0, 1, 1]


def test_the_paper_as_a_study_gives_the_computed_aggregates() -> None:
    """Its figures through our Tables 1 and 2 come out as the checks say."""
    paper = load_printed()
    targets = [name for names in paper.groups.values() for name in names]
    groups = {name: group for group, names in paper.groups.items() for name in names}
    # Two seeds, half a square root of two deviations apart from the mean, have that deviation.
    apart = 0.5**0.5
    results = results_of(
        {
            (target, name): [cell.mean - cell.deviation * apart, cell.mean + cell.deviation * apart]
            for target in targets
            for name in paper.columns
            if (cell := paper.grid[target, name]).deviation is not None
        },
        groups,
    )
    computed = {(each.table, each.row, each.column): each.computed for each in check_printed()}
    rows = {row[0].text: row for row in (*table_1(results).rows, *table_2(results).rows)}
    for number, name in enumerate(COLUMNS):
        average, deviation = rows["average"][4 + number], rows["average deviation"][4 + number]
        assert average.number == pytest.approx(computed["Table 1", "Average", name])
        assert deviation.number == pytest.approx(computed["Table 1", "Average Std. Dev.", name])
        for group in ("SL", "C", "QA"):
            cell = rows[group][1 + number]
            assert cell.number == pytest.approx(computed["Table 2", f"Unseen {group}", name])


def test_what_its_rows_say() -> None:
    """Over targets all groups beat the baseline (p = 0.001) but not SL+QA (p = 0.18)."""
    against_baseline = compare(column("SL+QA+C"), column(BASELINE))
    assert against_baseline.p == pytest.approx(0.001, abs=5e-4)
    assert (against_baseline.targets, against_baseline.better) == (12, 11)
    against_pair = compare(column("SL+QA+C"), column("SL+QA"))
    assert against_pair.p == pytest.approx(0.18, abs=5e-3)
    assert against_pair.interval is not None
    assert against_pair.interval.low < 0 < against_pair.interval.high


def test_checks_as_a_table() -> None:
    """Every printed aggregate stands above what its source gives, marked where they part."""
    table = printed_checks()
    rows = {row[0].text: row for row in table.rows if row[0].text}
    assert list(rows) == [
        "Table 1, Average", "Table 1, Average Std. Dev.", "Table 2, Unseen SL", "Table 2, Unseen C",
        "Table 2, Unseen QA", "Table 2, Average",
    ]  # fmt: skip
    marked = {name: sum(cell.mark == WRONG for cell in row) for name, row in rows.items()}
    assert list(marked.values()) == [8, 0, 1, 0, 8, 1]
    assert table.rows[1][1].text == "12 rows of Table 1"


def test_ours_beside_the_papers() -> None:
    """Shared targets and columns, whatever the order of groups; averages over the same targets."""
    results = results_of({
        ("wic", BASELINE): [60.0, 62.0], ("wic", "C+SL+QA"): [70.0, None],
        ("wic", "tiny"): [1.0, 1.0],
        ("cb", BASELINE): [80.0, 82.0],
        ("own", BASELINE): [5.0, 6.0], ("own", "C+SL+QA"): [7.0, 8.0],
    })  # fmt: skip
    table = beside(results)
    assert table is not None
    assert table.header == (
        "target", "baseline, paper", "baseline, here", "C+SL+QA, paper", "C+SL+QA, here",
    )  # fmt: skip
    shown = {row[0].text: [cell.text + cell.mark for cell in row[1:]] for row in table.rows}
    assert shown["wic"] == ["60.14 ± 7.45", "61.00 ± 1.41", "65.67 ± 1.05", "70.00†"]
    assert shown["cb"] == ["86.33 ± 4.20", "81.00 ± 1.41", "89.56 ± 2.16", "-"]
    assert shown["average"] == ["60.14", "61.00", "65.67", "70.00"]
    assert shown["gain over baseline"] == ["-", "-", "+5.54", "+9.00"]
    assert "own" not in shown
    assert any("Table 2 does not follow from its Table 1" in note for note in table.notes)
    assert any("1 of 2 targets" in note for note in table.notes)


def test_nothing_shared_no_table() -> None:
    """A study of other targets, or of other groups, is not put beside the paper."""
    assert beside(results_of({("own", BASELINE): [1.0]})) is None
