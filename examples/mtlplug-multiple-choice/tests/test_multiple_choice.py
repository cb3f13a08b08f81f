"""Multiple choice keeps the contract, with choices in columns and in a list."""

import pytest
import torch
from mtlplug_multiple_choice import MultipleChoice, _usable

from mtlplug.errors import MtlplugError
from mtlplug.formats import Row, Task
from mtlplug.model.weighting import LogNumLabels
from mtlplug.ragged import Splits
from mtlplug.testing import FormatContract


class TestMultipleChoice(FormatContract):
    """Questions of two to four choices."""

    format = MultipleChoice()
    rows = [
        {"context": "What can one eat?", "choices": ["bread", "a stone"], "answer": "0"},
        {"context": "Who can swim?", "choices": ["the bridge", "gold", "a fish"], "answer": "2"},
        {"context": "What is heavy?", "choices": ["a feather", "an anvil"], "answer": "1"},
        {"context": "Who sings?", "choices": ["a bird", "soup", "the air", "rain"], "answer": "0"},
        {"context": "What burns?", "choices": ["ice", "rain", "iron", "wood"], "answer": "3"},
    ]
    uncounted = [{"context": "What else?", "choices": ["this", "that"], "answer": -1}]


class TestSocialIqa(FormatContract):
    """Three answers in columns, numbered from 1, and the context of two columns joined."""

    format = MultipleChoice()
    rows = [
        {"context": "Tim lost. How is he?", "choice1": "sad", "choice2": "glad", "answer": "1"},
        {"context": "Ida won. How is she?", "choice1": "sad", "choice2": "glad", "answer": "2"},
        {"context": "Ben sold a horse. Why?", "choice1": "for money", "choice2": "for fun",
         "choice3": "to ride", "answer": "1"},
        {"context": "Eva bought a horse. Why?", "choice1": "for money", "choice2": "to sell",
         "choice3": "to ride", "answer": "3"},
    ]  # fmt: skip
    # What the class above has asked in full is asked once.
    test_two_ranks_give_the_gradient_of_one = None
    test_a_run_that_was_killed_goes_on_the_same = None


def test_log_num_labels() -> None:
    """A head that guesses evenly has a weighted loss of 1, on questions of two choices and four."""
    task = Task("t", "MC", labels=("0", "1", "2", "3"), chooses=MultipleChoice.chooses)
    splits = Splits.of([2, 4])
    losses = MultipleChoice().loss(torch.zeros(6, 1), torch.tensor([1, 0]), splits)
    weighted = LogNumLabels([task])(losses, torch.tensor([0, 0]), torch.tensor(splits.sizes))
    torch.testing.assert_close(weighted, torch.ones(2))


def test_an_answer_that_is_no_choice_is_refused() -> None:
    """The row's place is named, and the answers it could have."""
    task = Task("t", "MC", labels=("A", "B", "C"))
    row = Row({"context": "?", "choice1": "x", "choice2": "y", "answer": "C"}, where="f, line 3")
    with pytest.raises(MtlplugError, match="f, line 3: unknown answer 'C'; known: A, B"):
        list(_usable(task, [row], None))
