"""Dependency parsing keeps the contract, and reads CoNLL-U."""

from pathlib import Path

import pytest
import torch
from mtlplug_token_pair import Biaffine, DependencyParsing, _words

from mtlplug.data.sources import Source
from mtlplug.errors import MtlplugError
from mtlplug.formats import IGNORE, Row, Task
from mtlplug.model.weighting import LogNumLabels
from mtlplug.ragged import Splits
from mtlplug.testing import FormatContract

SUITE = Path(__file__).resolve().parents[1] / "suite"
TREES = [
    ("the dog sees a horse", "2 3 0 5 3", "det nsubj root det obj"),
    ("farmers sing", "2 0", "nsubj root"),
    (
        "today the boat carries every letter from the island to the harbour",
        "4 3 4 0 6 4 9 9 6 12 12 4",
        "advmod det nsubj root det obj case det nmod case det obl",
    ),
    ("go home now", "0 1 1", "root advmod advmod"),
]


class TestDependencyParsing(FormatContract):
    """Sentences of two to twelve words; under ZeRO-3 the head returns two tensors for each."""

    format = DependencyParsing()
    stages = ("2", "3")
    task = {"options": {"arc_size": 16, "relation_size": 8}}
    rows = [
        {
            "ids": [str(number) for number, _ in enumerate(text.split(), 1)],
            "tokens": text.split(),
            "heads": heads.split(),
            "relations": relations.split(),
        }
        for text, heads, relations in TREES
    ]
    uncounted = [{"ids": ["1"], "tokens": ["what"], "heads": ["0"], "relations": ["new"]}]


def test_conllu_is_read() -> None:
    """Comments, ranges of words and empty nodes are no words; heads count words."""
    columns = {"ids": 0, "tokens": 1, "heads": 6, "relations": 7}
    source = Source(SUITE / "train.conllu", columns=columns, comment="#")
    first = next(iter(source.rows()))
    assert "1-2" in first["ids"]
    words = list(_words(first))
    assert len(words) == len(first["ids"]) - 2
    assert [name for _, head, name in words if head == 0] == ["root"]


def test_a_head_beyond_the_words_is_refused() -> None:
    """Ranges of words are no words to count: with one before two words there is no third."""
    values = {"ids": ["1-2", "1", "2"], "tokens": ["im", "in", "dem"], "heads": ["_", "0", "3"]}
    row = Row({**values, "relations": ["_", "root", "det"]}, "f, line 4")
    with pytest.raises(MtlplugError, match="f, line 4: word 2 has the head '3', no word"):
        list(_words(row))


def test_scores_are_the_formula() -> None:
    """arc(i, j) = a_j' U a_i + u' a_j, and the same with one U for each relation."""
    torch.manual_seed(0)
    head = Biaffine(6, arc_size=4, relation_size=3, relations=2).eval()
    rows = torch.randn(5, 6)
    with torch.no_grad():
        (_, _), (arcs_NN, names_NNK) = head(rows, Splits.of([2, 3]))
    word, gov, word_name, gov_name = (layer(rows[2:]).relu() for layer in head.reduce)
    one = torch.ones(1)
    for i in range(3):
        for j in range(3):
            arc = gov[j] @ (head.arcs.weight @ torch.cat([word[i], one]) + head.arcs.bias)
            torch.testing.assert_close(arcs_NN[i, j], arc)
            maps = head.relations(torch.cat([word_name[i], one])).view(2, 4)
            expected = maps @ torch.cat([gov_name[j], one])
            torch.testing.assert_close(names_NNK[i, j], expected)


def test_attachment_scores() -> None:
    """UAS counts heads, LAS heads with their relation; words cut off count as wrong."""
    gold = [[2, "det"], [3, "nsubj"], [0, "root"], [3, "obj"]]
    reference = {"gold": gold, "rows": [0, 1, 2, 3]}  # the fourth was cut
    ours = [[0, "root"], [2, "det"], [3, "obj"], [1, "det"]]
    scores = DependencyParsing().metrics(Task("t", "DEP"), [ours], [reference])
    assert scores == {"uas": 50.0, "las": 25.0}


def test_right_and_wrong_sentences_are_told_apart() -> None:
    """What was predicted is shown word by word; a sentence that is all right as its gold."""
    gold = {"gold": [[2, "det"], [0, "root"], [2, "obj"]], "rows": [0, 1, 3]}  # word 2: no token
    task, task_format = Task("t", "DEP"), DependencyParsing()
    assert task_format.wanted_and_given(task, [[[0, "x"], [2, "det"], [0, "x"]]], [gold]) == (
        "2 det, 0 root, 2 obj",
        "3 det, - -, 0 x",
    )
    whole = {**gold, "rows": [0, 1, 2, 3]}
    right = [[0, "x"], *gold["gold"]]
    assert len({*task_format.wanted_and_given(task, [right], [whole])}) == 1


def test_the_loss_is_the_sum_of_both_cross_entropies() -> None:
    """That of the head, and that of the relation to the right head; a mean over counted words."""
    torch.manual_seed(0)
    arcs, names = torch.randn(3, 3), torch.randn(3, 3, 2)
    targets = torch.tensor([IGNORE, 2 * 2 + 1, IGNORE, IGNORE])  # word 1: head 2, relation 1
    scores = [(arcs, names), (torch.randn(1, 1), torch.randn(1, 1, 2))]
    losses = DependencyParsing().loss(scores, targets, Splits.of([3, 1]))
    expected = -arcs[1].log_softmax(-1)[2] - names[1, 2].log_softmax(-1)[1]
    torch.testing.assert_close(losses, torch.stack([expected, torch.zeros(())]))


def test_log_num_labels() -> None:
    """A head that guesses evenly has a weighted loss of 1: log of rows plus log of relations."""
    task = Task("t", "DEP", labels=("a", "b"), chooses=DependencyParsing.chooses)
    scores = [(torch.zeros(3, 3), torch.zeros(3, 3, 2))]
    losses = DependencyParsing().loss(scores, torch.tensor([IGNORE, 1, 2]), Splits.of([3]))
    weighted = LogNumLabels([task])(losses, torch.tensor([0]), torch.tensor([3]))
    torch.testing.assert_close(weighted, torch.ones(1))
