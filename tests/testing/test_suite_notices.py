"""mtlplug.testing: what breaks the contract is noticed, and the author told what to change."""

from __future__ import annotations

import random
import unittest
from collections.abc import Iterator, Mapping, Sequence
from math import nan
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from mtlplug.formats import Feature, Row, TaskFormat
from mtlplug.heads import SequenceHead
from mtlplug.testing import ContractError, FormatContract, trials

ROWS = [
    {"text": f"{number} {'good' if number > 3 else 'bad'} things on {day} in town", "n": number}
    for number, day in enumerate(["monday", "tuesday", "friday", "sunday", "monday", "friday"])
]


class Sound(TaskFormat):
    """A number for a text; what the others break one part of."""

    code, title, headline = "N", "number", "near"
    columns = ("text", "n")

    def features(self, task: Any, rows: Any, encode: Any) -> Iterator[Feature]:
        """Read the first token."""
        for row in rows:
            (encoded,) = encode.texts([(row.value("text", str), None)])
            number = row.value("n", float)
            yield Feature((encoded,), self.reads(encoded), [number], number)

    def reads(self, encoded: Any) -> list[int]:
        """The first token."""
        return [0]

    def head(self, task: Any, hidden_size: int) -> nn.Module:
        """One number."""
        return SequenceHead(hidden_size, 1)

    def loss(self, scores: Any, targets: Tensor, splits: Any) -> Tensor:
        """Squared error."""
        return mse_loss(scores[:, 0], targets, reduction="none")

    def decode(self, task: Any, scores: Any, splits: Any) -> list[Any]:
        """The number."""
        return [float(score) for score in scores[:, 0]]

    def metrics(self, task: Any, predictions: Any, references: Any) -> dict[str, float]:
        """Share of numbers that are near."""
        near = [abs(a - b) < 0.5 for a, b in zip(predictions, references, strict=True)]
        return {"near": 100 * sum(near) / len(near)}


class ReadsBeyond(Sound):
    """Counts tokens from 1."""

    def reads(self, encoded: Any) -> list[int]:
        """One too far."""
        return [len(encoded)]


class ReadsAll(Sound):
    """Holds the whole dataset."""

    def features(self, task: Any, rows: Any, encode: Any) -> Iterator[Feature]:
        """Not before the last row is read."""
        yield from super().features(task, list(rows), encode)


class Draws(Sound):
    """Targets are drawn anew at each call."""

    def features(self, task: Any, rows: Any, encode: Any) -> Iterator[Feature]:
        """With a random target."""
        for feature in super().features(task, rows, encode):
            yield Feature(feature.sequences, [0], [random.random()], feature.reference)


class Trusts(Sound):
    """Takes every value for a number."""

    def features(self, task: Any, rows: Any, encode: Any) -> Iterator[Feature]:
        """Without a look at the values."""
        for row in rows:
            (encoded,) = encode.texts([(str(row["text"]), None)])
            yield Feature((encoded,), [0], [float(row["n"])], row["n"])


class Drops(Sound):
    """Leaves rows without text out and says nothing."""

    def features(self, task: Any, rows: Any, encode: Any) -> Iterator[Feature]:
        """Of rows with a text."""
        yield from super().features(task, (row for row in rows if row["text"].strip()), encode)


class DropsLong(Sound):
    """Leaves rows out that do not fit, and lets `encode.texts` say that texts were cut."""

    def features(self, task: Any, rows: Any, encode: Any) -> Iterator[Feature]:
        """Of rows that are whole."""
        for feature in super().features(task, rows, encode):
            if not feature.sequences[0].truncated:
                yield feature


class LosesWords(Sound):
    """Has a target for each token, and says nothing of those of tokens that were cut."""

    def features(self, task: Any, rows: Any, encode: Any) -> Iterator[Feature]:
        """Read all tokens."""
        for feature in super().features(task, rows, encode):
            places = range(len(feature.sequences[0]))
            yield Feature(feature.sequences, places, [*places], [*places])


class Reduces(Sound):
    """Gives the mean loss."""

    def loss(self, scores: Any, targets: Tensor, splits: Any) -> Tensor:
        """One number for all."""
        return mse_loss(scores[:, 0], targets)


class Mixes(Sound):
    """Spreads the mean loss over the features: the right shape, and wrong."""

    def loss(self, scores: Any, targets: Tensor, splits: Any) -> Tensor:
        """The same number for each."""
        return mse_loss(scores[:, 0], targets).expand(len(splits))


class Misreads(Sound):
    """Decodes otherwise than the loss teaches."""

    def decode(self, task: Any, scores: Any, splits: Any) -> list[Any]:
        """With the sign turned round."""
        return [-float(score) for score in scores[:, 0]]


class Flatters(Sound):
    """Finds every prediction right."""

    def metrics(self, task: Any, predictions: Any, references: Any) -> dict[str, float]:
        """Without a look at them."""
        return {"near": 100.0}


class Deaf(Sound):
    """Learns nothing: the loss has a gradient, which is zero."""

    def loss(self, scores: Any, targets: Tensor, splits: Any) -> Tensor:
        """Squared error of nothing."""
        return mse_loss(0 * scores[:, 0], targets, reduction="none")


class Lucky(Sound):
    """Asks for the sign alone, and has a head that begins with the right one for all rows."""

    def head(self, task: Any, hidden_size: int) -> nn.Module:
        """Above zero from the start."""
        head = SequenceHead(hidden_size, 1)
        nn.init.constant_(head.projection.bias, 1.0)
        return head

    def metrics(self, task: Any, predictions: Any, references: Any) -> dict[str, float]:
        """Share of right signs."""
        right = [(a > 0) == (b >= 0) for a, b in zip(predictions, references, strict=True)]
        return {"near": 100 * sum(right) / len(right)}


class Undefined(Sound):
    """Divides by the spread of the references."""

    def metrics(self, task: Any, predictions: Any, references: Any) -> dict[str, float]:
        """NaN where all references are one."""
        spread = max(references) - min(references)
        return {"near": super().metrics(task, predictions, references)["near"] if spread else nan}


class Idle(SequenceHead):
    """Has a layer that no score depends on."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__(hidden_size, 1)
        self.spare = nn.Linear(2, 2)


class Forgets(SequenceHead):
    """Scores depend on a number that is no part of its state."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__(hidden_size, 1)
        self.shift = float(torch.randn(()))

    def forward(self, rows_RD: Tensor, splits: Any) -> Tensor:
        """Shifted."""
        return super().forward(rows_RD, splits) + self.shift


class WithIdle(Sound):
    """Its head is `Idle`."""

    def head(self, task: Any, hidden_size: int) -> nn.Module:
        """With a spare layer."""
        return Idle(hidden_size)


class WithForgets(Sound):
    """Its head is `Forgets`."""

    def head(self, task: Any, hidden_size: int) -> nn.Module:
        """With a memory outside its state."""
        return Forgets(hidden_size)


class Keeps(Sound):
    """Fills the gold's column only where there is one."""

    def unlabelled(self, task: Any, row: Row) -> Row:
        """A number, or none."""
        return row | {"n": -1.0 if "n" in row else None}


class Retells(Sound):
    """Changes the text where the gold is not known."""

    def unlabelled(self, task: Any, row: Row) -> Row:
        """With words more."""
        return row | {"n": -1.0, "text": f"{row.get('text', '')} in town"}


class ShowsTensors(Sound):
    """Shows what only torch can read."""

    def present(self, task: Any, row: Any, features: Any, scores: Any, splits: Any) -> Any:
        """A tensor."""
        return {"number": scores[0, 0]}


class ShowsNothing(Sound):
    """Finds no row wrong."""

    def wanted_and_given(self, task: Any, predictions: Any, references: Any) -> tuple[str, str]:
        """Gold alone."""
        return str(references), str(references)


class ShowsDigits(Sound):
    """Finds every row wrong: learnt numbers are near, and never equal."""

    def wanted_and_given(self, task: Any, predictions: Any, references: Any) -> tuple[str, str]:
        """All digits."""
        return str(references[0]), str(predictions[0])


class Miscounts(Sound):
    """Counts rows, and not those that are near."""

    def row_counts(self, task: Any, predictions: Any, references: Any) -> Any:
        """One each."""
        return np.ones((len(references), 1))

    def metrics_of_counts(self, task: Any, counts_K: Any) -> dict[str, float]:
        """All near."""
        return {"near": 100.0}


class CountsFlat(Miscounts):
    """Forgets the second axis."""

    def row_counts(self, task: Any, predictions: Any, references: Any) -> Any:
        """One number for each row."""
        return np.ones(len(references))


class Newer(Sound):
    """Written for a contract that does not exist yet."""

    contract = 99


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
