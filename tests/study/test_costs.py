"""What encoders cost and gave, and the tests between them."""

from __future__ import annotations

import pytest
from scipy import stats

from mtlplug.errors import MtlplugError
from mtlplug.pages.table import Cell, Table
from mtlplug.study.costs import comparisons, costs
from mtlplug.study.results import BASELINE, MISSING, Column, Results
from tests.study.small_results import results_of

COLUMNS = (
    Column(BASELINE),
    Column("SL", seconds=7200.0, seconds_per_epoch=200.0, epochs=7, tokens=1_500_000),
    Column("C", seconds=1800.0, seconds_per_epoch=100.0, epochs=3, tokens=900_000),
    Column("SL+C", seconds=9000.0, seconds_per_epoch=310.0, epochs=8, tokens=2_400_000),
    Column("QA", MISSING),
)
SCORES = {
    ("wic", BASELINE): [50.0], ("wic", "SL"): [56.0], ("wic", "C"): [49.0], ("wic", "SL+C"): [57.0],
    ("b", BASELINE): [30.0], ("b", "SL"): [32.0], ("b", "C"): [29.0], ("b", "SL+C"): [31.0],
}  # fmt: skip


def cells(table: Table) -> dict[str, dict[str, Cell]]:
    """By first column and header."""
    return {row[0].text: dict(zip(table.header, row, strict=True)) for row in table.rows}


def study(price: float | None = None) -> Results:
    """Two targets, three encoders and one that is missing."""
    return results_of(SCORES, columns=COLUMNS, price=price)


def test_costs_and_gain() -> None:
    """Ratio to the cheapest single group, hours, money, points over the baseline and per hour."""
    found = cells(costs(study(price=3.0)))
    assert list(found) == ["SL", "C", "SL+C", "QA"]
    assert [found[name]["x C"].number for name in ("SL", "C", "SL+C")] == [2.0, 1.0, 3.1]
    assert found["SL"]["hours"].number == 2.0
    assert found["SL"]["money"].number == 6.0
    assert found["SL"]["gain"].text == "+4.00"
    assert found["SL"]["gain per hour"].number == pytest.approx(2.0)
    assert found["C"]["gain per hour"].number == pytest.approx(-2.0)
    assert {
        cell.text for name, cell in found["QA"].items() if name not in ("groups", "x C in paper")
    } == {"-"}
    assert found["SL+C"]["tokens"].text == "2,400,000"


def test_costs_beside_the_papers() -> None:
    """The paper's epochs as ratios to the same group: 2661 and 1131 seconds over 1643."""
    found = cells(costs(study()))
    assert found["SL+C"]["x C in paper"].number == pytest.approx(2661 / 1643)
    assert found["SL"]["x C in paper"].number == pytest.approx(1131 / 1643)
    own = results_of({("a", BASELINE): [1.0], ("a", "tiny"): [2.0]},
                     columns=(Column(BASELINE), Column("tiny", seconds_per_epoch=5.0)))  # fmt: skip
    assert "x tiny" in costs(own).header
    assert "x tiny in paper" not in costs(own).header
    others = {("a" if target == "wic" else target, name): x for (target, name), x in SCORES.items()}
    assert "x C in paper" not in costs(results_of(others, columns=COLUMNS)).header


def test_the_reference_is_a_single_group_where_one_was_timed() -> None:
    """A combination that happened to be faster is no reference, unless there is nothing else."""
    fast = (Column("SL", seconds_per_epoch=50.0), Column("SL+C", seconds_per_epoch=40.0))
    scores = {("a", BASELINE): [1.0]}
    assert "x SL" in costs(results_of(scores, columns=fast)).header
    assert "x SL+C" in costs(results_of(scores, columns=fast[1:])).header


def test_no_price_no_money() -> None:
    """Money is shown where a price was given; without any time there is no ratio."""
    assert "money" not in costs(study()).header
    bare = costs(results_of(SCORES))
    assert bare.header == ("groups", "s per epoch", "epochs", "hours", "tokens", "gain",
                           "gain per hour")  # fmt: skip
    assert costs(results_of({("a", BASELINE): [1.0]})).rows == ()


FIRST = [61.0, 72.5, 55.0, 80.25, 41.0, 90.0, 66.0, 70.0]
SECOND = [60.0, 70.0, 51.0, 80.5, 33.0, 84.0, 63.0, 65.0]


def pair_of(first: list[float], second: list[float], extra: int = 0) -> Results:
    """A study of two columns, the first with targets of its own beside."""
    scores = {(f"t{n}", "SL"): [each] for n, each in enumerate([*first, *[1.0] * extra])}
    scores |= {(f"t{n}", BASELINE): [each] for n, each in enumerate(second)}
    return results_of(scores)


def test_comparison_over_shared_targets() -> None:
    """The test is scipy's over the targets that both columns have."""
    found = cells(comparisons(pair_of(FIRST, SECOND, extra=3)))["SL"]
    differences = [a - b for a, b in zip(FIRST, SECOND, strict=True)]
    assert found["targets"].number == 8
    assert found["difference (95 % interval)"].number == pytest.approx(sum(differences) / 8)
    assert (found["better on"].number, found["worse on"].number) == (7, 1)
    assert found["p"].number == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue)
    assert found["so"].text == "differ"


def test_too_few_targets_are_named() -> None:
    """Five targets cannot reach 0.05 and six can; with two tests to correct for six cannot."""
    five = comparisons(pair_of([9.0, 8, 7, 6, 5], [0.0, 0, 0, 0, 0]))
    assert cells(five)["SL"]["so"].text == "too few targets"
    assert "1 test can go below 0.05 only where 6 or more targets differ" in five.notes[-1]
    study = pair_of([9.0, 8, 7, 6, 5, 4], [0.0] * 6)
    assert cells(comparisons(study))["SL"]["so"].text == "differ"
    twice = comparisons(study, [("SL", BASELINE), (BASELINE, "SL")])
    assert [row[-1].text for row in twice.rows] == ["too few targets"] * 2
    assert "2 tests can all go below 0.05 only where 7 or more" in twice.notes[-1]


def test_equal_columns_are_not_distinguishable() -> None:
    """A difference that comes and goes is not called one; columns without targets say nothing."""
    mixed = [b + (1.5 if n % 2 else -1.4) for n, b in enumerate(SECOND)]
    assert cells(comparisons(pair_of(mixed, SECOND)))["SL"]["so"].text == "not distinguishable"
    lonely = comparisons(results_of({("a", "SL"): [1.0]}))
    assert [cell.text for cell in lonely.rows[0]] == ["SL", BASELINE, "0", *["-"] * 6]


def test_unknown_columns_are_refused() -> None:
    """The error names those there are."""
    with pytest.raises(MtlplugError, match="unknown column 'QA'; known: SL, baseline"):
        comparisons(pair_of(FIRST, SECOND), [("QA", "SL")])
