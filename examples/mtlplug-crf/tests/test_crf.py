"""The conditional random field: the contract, and all paths counted one by one."""

from itertools import pairwise, product

import pytest
import torch
from mtlplug_crf import Chain, ConditionalRandomField, best_path, log_partition

from mtlplug.formats import IGNORE, Task
from mtlplug.ragged import Splits, split
from mtlplug.testing import FormatContract

SIZES, LABELS = (4, 1, 0, 3), 3
FORMAT = ConditionalRandomField()


class TestConditionalRandomField(FormatContract):
    """Sentences of three to seven words; under ZeRO-3 parameters of a head go out with scores."""

    format = FORMAT
    stages = ("2", "3")
    rows = [
        {"tokens": text.split(), "tags": tags.split()}
        for text, tags in [
            ("Ada Byron lives in London .", "B-PER I-PER O O B-LOC O"),
            ("the train to Paris leaves Rome today", "O O O B-LOC O B-LOC O"),
            ("Marie Curie met Ada", "B-PER I-PER O B-PER"),
            ("nobody was there", "O O O"),
        ]
    ]
    uncounted = [{"tokens": ["\u200b"], "tags": ["B-PER"]}]  # becomes no token: no row to read


@pytest.fixture
def chain() -> tuple[torch.Tensor, ...]:
    """Random emissions, transitions, starts and ends."""
    torch.manual_seed(0)
    shapes = ((sum(SIZES), LABELS), (LABELS, LABELS), (LABELS,), (LABELS,))
    return tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes)


def score(emissions_NK, moves_KK, start_K, end_K, path):
    """The score of one path by its definition."""
    total = start_K[path[0]] + end_K[path[-1]]
    total = total + sum(emissions_NK[place, label] for place, label in enumerate(path))
    return total + sum(moves_KK[a, b] for a, b in pairwise(path))


def paths(chain, splits):
    """For each sentence with words all its paths with their scores."""
    for emissions_NK in split(chain[0], splits):
        if len(emissions_NK):
            every = list(product(range(LABELS), repeat=len(emissions_NK)))
            yield {path: score(emissions_NK, *chain[1:], path) for path in every}


def test_the_partition_is_the_sum_over_all_paths(chain) -> None:
    """log Z of every sentence, whatever the lengths beside it."""
    splits = Splits.of(SIZES)
    found = log_partition(chain[0], chain[1:], splits)
    expected = [torch.stack([*each.values()]).logsumexp(0) for each in paths(chain, splits)]
    torch.testing.assert_close(found[[0, 1, 3]], torch.stack(expected))


def test_the_best_path_is_the_best_of_all(chain) -> None:
    """Viterbi finds it; a sentence without words has an empty one."""
    splits = Splits.of(SIZES)
    found = [tuple(best_path(each, *chain[1:])) for each in split(chain[0], splits)]
    best = [max(each, key=each.get) for each in paths(chain, splits)]
    assert [path for path in found if path] == best
    assert found[2] == ()


def test_the_loss_is_that_of_the_gold_path_by_its_words(chain) -> None:
    """-log p / words; a word that is not counted may have any label."""
    splits = Splits.of(SIZES)
    gold = torch.tensor([0, 2, IGNORE, 1, IGNORE, 1, 0, 2])
    losses = FORMAT.loss(chain, gold, splits)
    every = list(paths(chain, splits))
    log_p = []
    for each, labels in zip(every, ([0, 2, None, 1], [None], [1, 0, 2]), strict=True):
        fits = [
            value
            for path, value in each.items()
            if all(b in (None, a) for a, b in zip(path, labels, strict=True))
        ]
        log_p.append(torch.stack(fits).logsumexp(0) - torch.stack([*each.values()]).logsumexp(0))
    expected = torch.stack([-log_p[0] / 3, log_p[1] * 0, torch.zeros(()), -log_p[2] / 3])
    torch.testing.assert_close(losses, expected)
    assert losses[1] == losses[2] == 0


def test_the_gradient_is_finite_where_no_word_is_counted(chain) -> None:
    """Forbidden labels are minus infinity, and leave no NaN behind."""
    head = Chain(5, LABELS)
    splits = Splits.of((3, 2))
    targets = torch.tensor([0, IGNORE, 1, IGNORE, IGNORE])
    FORMAT.loss(head(torch.randn(5, 5), splits), targets, splits).sum().backward()
    for parameter in head.parameters():
        assert parameter.grad.isfinite().all()
    assert head.transitions.grad.abs().sum() > 0


def test_sentences_without_any_word() -> None:
    """Where all of a micro-batch are such, the loss is zero and every parameter has a gradient."""
    head = Chain(5, LABELS)
    splits = Splits.of((0, 0))
    losses = FORMAT.loss(head(torch.zeros(0, 5), splits), torch.zeros(0, dtype=int), splits)
    assert losses.tolist() == [0, 0]
    losses.sum().backward()
    assert all(parameter.grad.abs().sum() == 0 for parameter in head.parameters())


def test_decode_names_labels() -> None:
    """Transitions decide where emissions do not."""
    task = Task("t", "CRF", labels=("O", "B-X", "I-X"))
    moves = torch.tensor([[0.0, 0, -9], [-9, -9, 0], [0, 0, 0]])
    emissions = torch.tensor([[0.0, 1, 0], [0.4, 0, 0.3]])
    ends = torch.zeros(3)
    scores = (emissions, moves, ends, ends)
    assert FORMAT.decode(task, scores, Splits.of([2])) == [["B-X", "I-X"]]
