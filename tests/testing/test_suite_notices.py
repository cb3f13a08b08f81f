"""mtlplug.testing: what breaks the contract is noticed, and the author told what to change."""

from __future__ import annotations

import unittest
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from broken_formats import (
    CountsFlat,
    Deaf,
    Draws,
    Drops,
    DropsLong,
    Flatters,
    Keeps,
    LosesWords,
    Lucky,
    Miscounts,
    Misreads,
    Mixes,
    Newer,
    ReadsAll,
    ReadsBeyond,
    Reduces,
    Retells,
    ShowsDigits,
    ShowsNothing,
    ShowsTensors,
    Sound,
    Trusts,
    Undefined,
    WithForgets,
    WithIdle,
)

from mtlplug.formats import TaskFormat
from mtlplug.testing import ContractError, FormatContract, trials

ROWS = [
    {"text": f"{number} {'good' if number > 3 else 'bad'} things on {day} in town", "n": number}
    for number, day in enumerate(["monday", "tuesday", "friday", "sunday", "monday", "friday"])
]


def checked(task_format: TaskFormat, test: str, rows: Sequence[Mapping[str, Any]] = ROWS) -> None:
    """Run one inherited test on a format."""
    values = {"format": task_format, "rows": rows}
    contract: type[FormatContract] = type("TestIt", (FormatContract,), values)
    contract.setup_class()
    try:
        getattr(contract(), f"test_{test}")()
    finally:
        contract.teardown_class()


@pytest.mark.parametrize(
    ("broken", "test", "found", "remedy"),
    [
        (Newer, "the_format_is_declared", "contract 99", "upgrade mtlplug"),
        (ReadsBeyond, "rows_become_features", "reads positions outside its", "fault of its task"),
        (ReadsAll, "features_come_as_rows_are_read", "reads 5000 rows", "make it a generator"),
        (Draws, "features_are_the_same_every_time", "different features", "seeded by the row"),
        (Trusts, "wrong_values_get_one_sentence", "column 'n' holds None", "row.value"),
        (Drops, "empty_texts", "lost without a word", "encode.count"),
        (DropsLong, "truncation_is_survived_and_counted", "row 0 is left out", "rows too long"),
        (LosesWords, "truncation_is_survived_and_counted", "targets of row 0", "words cut"),
        (Reduces, "losses_are_one_per_feature", "losses of shape ()", "one loss per feature"),
        (Mixes, "a_feature_scores_the_same_alone_and_packed", "has the loss", "use splits"),
        (
            Misreads,
            "rows_learnt_by_heart_score_best",
            "rather than 100",
            "decode or metrics read scores",
        ),
        (Flatters, "rows_learnt_by_heart_score_best", "before any training", "compare predictions"),
        (Deaf, "rows_learnt_by_heart_score_best", "the mean loss went from", "let the loss depend"),
        (Keeps, "rows_without_gold_are_read", "row 0 without n", "let unlabelled fill them"),
        (Retells, "rows_without_gold_are_read", "other tokens or reads", "leave all columns"),
        (ShowsTensors, "predictions_are_shown", "Tensor is not JSON", ".tolist(), float(...)"),
        (ShowsNothing, "right_rows_are_no_errors", "the same for all rows", "gold and prediction"),
        (ShowsDigits, "right_rows_are_no_errors", "where a row has the near 100", "equal texts"),
        (Miscounts, "counts_of_rows_give_the_metrics", "the counts give", "adds up"),
        (CountsFlat, "counts_of_rows_give_the_metrics", "have the shape (6,)", "(rows, K)"),
        (Undefined, "one_answer", "'near' is nan", "return 0.0"),
        (WithIdle, "the_gradient_reaches_the_head", "'spare.weight'", "take part in the scores"),
        (WithForgets, "state_is_saved_without_pickle", "scores otherwise", "register_buffer"),
    ],
)
def test_what_breaks_the_contract(
    broken: type[TaskFormat], test: str, found: str, remedy: str
) -> None:
    """The failure says what was found and what the author should change; the sound one passes."""
    with pytest.raises(ContractError) as failure:
        checked(broken(), test)
    assert found in failure.value.found
    assert remedy in str(failure.value)


SAME = [{**row, "n": 3} for row in ROWS]


def test_rows_that_prove_little() -> None:
    """Right before training is no fault; rows of one answer prove nothing, but a deaf head."""
    checked(Lucky(), "rows_learnt_by_heart_score_best")
    with pytest.raises(unittest.SkipTest, match="all rows have the same answer"):
        checked(Sound(), "rows_learnt_by_heart_score_best", SAME)
    with pytest.raises(ContractError, match="the mean loss went from 9 to 9"):
        checked(Deaf(), "rows_learnt_by_heart_score_best", SAME)


def test_what_counts_as_the_best() -> None:
    """A hundredth below it; where an untrained head comes as near, the best itself."""
    assert trials.near(100.0, 60.0) == 99.0
    assert 99.99 < trials.near(100.0, 99.5) < 100
    assert trials.near(0.0, -5.0) == -0.01


def test_a_head_that_is_stuck_is_tried_with_another_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training may fail by chance; after all seeds the last one is told, whatever it gave."""
    stuck, tried = {1}, []

    def learn(specimen: Any, best: float, seed: int) -> trials.Learnt:
        tried.append(seed)
        steps = trials.STEPS if seed in stuck else trials.STEPS - 1
        return trials.Learnt(Any, Any, {"seed": seed}, steps)

    monkeypatch.setattr(trials, "_learn", learn)
    assert trials.learn_by_heart(Any, 100.0).metrics == {"seed": 2}
    stuck.add(2)
    assert trials.learn_by_heart(Any, 100.0).steps == trials.STEPS
    stuck.clear()
    assert trials.learn_by_heart(Any, 100.0).metrics == {"seed": 1}
    assert tried == [1, 2, 1, 2, 1]


TESTS = [name.removeprefix("test_") for name in dir(FormatContract) if name.startswith("test_")]
LONG = ("two_ranks_give_the_gradient_of_one", "a_run_that_was_killed_goes_on_the_same")


def test_a_sound_format_passes() -> None:
    """What the broken ones are made of keeps the contract; what it does not offer is skipped."""
    contract: type[FormatContract] = type("T", (FormatContract,), {"format": Sound(), "rows": ROWS})
    contract.setup_class()
    skipped = []
    for test in TESTS:
        if test not in LONG:
            try:
                getattr(contract(), f"test_{test}")()
            except unittest.SkipTest:
                skipped.append(test)
    contract.teardown_class()
    assert sorted(skipped) == [
        "counts_of_rows_give_the_metrics",
        "export_gives_equal_scores",
        "right_rows_are_no_errors",
        "rows_without_gold_are_read",
        "uncounted_features_have_no_loss",
    ]
