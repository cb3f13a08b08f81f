"""Dependency parsing keeps the contract, and reads CoNLL-U."""

from pathlib import Path

import torch
from mtlplug_token_pair import Biaffine, DependencyParsing, _words

from mtlplug.data.sources import Source
from mtlplug.formats import Task
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
