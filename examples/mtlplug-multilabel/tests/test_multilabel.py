"""Multi-label classification keeps the contract."""

import pytest
import torch
from mtlplug_multilabel import MultiLabel

from mtlplug.errors import MtlplugError
from mtlplug.formats import Task
from mtlplug.model.weighting import LogNumLabels
from mtlplug.ragged import Splits
from mtlplug.testing import FormatContract
from mtlplug.testing.specimen import Specimen


class TestMultiLabel(FormatContract):
    """Texts with none, one and several labels, as lists and as texts."""

    format = MultiLabel()
    rows = [
        {"text": "The rowers won in the rain.", "labels": ["sport", "weather"]},
        {"text": "A choir sings.", "labels": ["music"]},
        {"text": "Letters for Anna.", "labels": []},
        {"text": "Snow is expected.", "labels": "weather"},
        {"text": "The band of the rowing club plays.", "labels": "sport, music"},
    ]

    def test_rows_without_any_label_are_refused(self) -> None:
        """A head without outputs has no loss; labels that the suite names are enough."""
        bare = [{"text": "Nothing.", "labels": ""}] * 4
        with pytest.raises(MtlplugError, match=r"contract.jsonl: task .* no training row with a"):
            assert self.of(bare).data
        named = Specimen(self.format, {"labels": ["sport"]}, bare, self.of(bare).folder)
        assert named.data.task.labels == ("sport",)


def test_log_num_labels() -> None:
    """A head that guesses evenly has a weighted loss of 1, however many labels there are."""
    task = Task("t", "ML", labels=tuple("abcdefg"), chooses=MultiLabel.chooses)
    losses = MultiLabel().loss(torch.zeros(1, 7), torch.zeros(7), Splits.of([1]))
    weighted = LogNumLabels([task])(losses, torch.tensor([0]), torch.tensor([1]))
    torch.testing.assert_close(weighted, torch.ones(1))


def test_f1_is_micro_and_macro() -> None:
    """Micro over all decisions, macro over labels; nothing to find and nothing found is right."""
    ours, gold = [["a"], ["a", "b"], []], [["a"], ["a"], ["b"]]
    scores = MultiLabel().metrics(None, ours, gold)
    assert scores == {"micro_f1": pytest.approx(200 / 3), "macro_f1": pytest.approx(50)}
    assert MultiLabel().metrics(None, [[]], [[]])["micro_f1"] == 100
