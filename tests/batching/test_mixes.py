"""mtlplug.batching.mixes: how often each task comes, and what an epoch is."""

from __future__ import annotations

from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest

from mtlplug.batching.mixes import OURS, make_mix, mixed_pool
from mtlplug.batching.mixing import Pool
from mtlplug.errors import MtlplugError
from mtlplug.plugin_registry import Registry
from tests.small_suite import command

SIZES = {"large": 800, "small": 50, "empty": 0, "middle": 150}
TASKS = len(SIZES)


def pool(text: str, batch_size: int = 64) -> Pool:
    """The pool of these tasks under a mix."""
    return mixed_pool(SIZES, make_mix(text, Registry()), batch_size, seed=5)


def counts(text: str, epoch: int = 0) -> list[int]:
    """Features that an epoch draws of each task."""
    members = [each.tasks_B for each in pool(text).epoch(epoch)]
    return np.bincount(np.concatenate(members), minlength=TASKS).tolist()


def test_the_default_is_the_papers_bit_for_bit() -> None:
    """One permutation of the pool by seed and epoch, as before there were mixes."""
    order = np.random.Generator(np.random.PCG64([5, 3])).permutation(1000)
    starts = np.array([0, 800, 850, 850])
    drawn = [
        starts[members.tasks_B] + members.features_B for members in pool("proportional").epoch(3)
    ]
    np.testing.assert_array_equal(np.concatenate(drawn), order)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("proportional", [800, 50, 0, 150]),
        ("uniform", [334, 333, 0, 333]),
        ("temperature:1", [800, 50, 0, 150]),
        ("temperature:2", [594, 149, 0, 257]),  # in proportion to 28.28, 7.07 and 12.25
        ("temperature:1e9", [334, 333, 0, 333]),
        ("capped:100", [100, 50, 0, 100]),
        ("capped:9999", [800, 50, 0, 150]),
        ("weights:large=2", [500, 250, 0, 250]),
        ("weights:small=0.5, middle=1.5", [334, 167, 0, 499]),
    ],
)
def test_shares(text: str, expected: list[int]) -> None:
    """An epoch holds each task's share to the feature, and is as long as said."""
    assert sum(abs(a - b) for a, b in zip(counts(text), expected, strict=True)) <= 2
    assert sum(counts(text)) == sum(expected)
    assert pool(text).steps_per_epoch == -(-sum(expected) // 64)


@pytest.mark.parametrize("text", ["uniform", "temperature:3", "capped:60", "weights:small=9"])
def test_features_of_a_task_come_equally_often(text: str) -> None:
    """Over epochs no feature of a task comes more than once more than another."""
    seen = np.zeros(1000, int)
    mixed = pool(text)
    for epoch in range(7):
        np.add.at(seen, mixed.drawn(epoch), 1)
    for part in (seen[:800], seen[800:850], seen[850:]):
        assert part.max() - part.min() <= 1


@pytest.mark.parametrize("text", ["uniform", "temperature:2", "capped:70"])
def test_an_epoch_goes_on_in_the_middle(text: str) -> None:
    """The batches after some are those of the whole epoch: every rank and run knows them."""
    whole, rest = list(pool(text).epoch(2)), list(pool(text).epoch(2, done=2))
    assert len(rest) == len(whole) - 2
    for ours, theirs in zip(rest, whole[2:], strict=True):
        np.testing.assert_array_equal(ours.tasks_B, theirs.tasks_B)
        np.testing.assert_array_equal(ours.features_B, theirs.features_B)


def test_epochs_differ() -> None:
    """Another epoch draws in another order, and what the one before left out."""
    first, second = (pool("capped:60").drawn(epoch) for epoch in (0, 1))
    large = [set(drawn[drawn < 800].tolist()) for drawn in (first, second)]
    assert not large[0] & large[1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("temperatur:2", r"unknown mix 'temperatur' (did you mean 'temperature'\?); known: capped"),
        ("temperature", "mix 'temperature': it takes a number of 1 or more, as in temperature:2"),
        ("temperature:0.5", "mix 'temperature:0.5': it takes a number of 1 or more"),
        ("capped:nan", "mix 'capped:nan': it takes a number"),
        ("weights:small=-1", "numbers above 0, as in weights:people=2,mood=0.5, and got '-1'"),
        ("uniform:2", "mix 'uniform:2': it takes no parameter"),
    ],
)
def test_a_wrong_mix_is_one_sentence(text: str, sentence: str) -> None:
    """It says what is wrong, and how it should be."""
    with pytest.raises(MtlplugError, match=sentence.replace("(", r"\(").replace(")", r"\)")):
        make_mix(text, Registry())


def test_weights_name_tasks_of_the_run() -> None:
    """Another name is refused, and so is a share that rounds to nothing."""
    with pytest.raises(MtlplugError, match="unknown task in --mix weights 'big'; known: empty"):
        pool("weights:big=2")
    with pytest.raises(MtlplugError, match="leaves nothing of an epoch to task 'small'"):
        pool("weights:small=1e-6")


PLUGIN = """
import mtlplug


def turns(parameter):
    size = int(parameter)
    return lambda sizes, epoch: [size if n == epoch % len(sizes) else 0 for n in range(len(sizes))]


@mtlplug.hookimpl
def mtlplug_mixes():
    return {"turns": turns, "wrong": lambda parameter: lambda sizes, epoch: [epoch + 1, 0, 0, 0]}
"""


def test_mtlplug_mixes_of_a_plugin(tmp_path: Path) -> None:
    """They are named like ours and may differ from epoch to epoch, but not in their sum."""
    names: dict[str, object] = {}
    exec(PLUGIN, names)
    registry = Registry()
    mixes = names["mtlplug_mixes"]()  # type: ignore[operator]
    registry.add("plugin 'x' of one 1.5", {"mix": mixes}, "")
    turns = mixed_pool(SIZES, make_mix("turns:32", registry), 16, seed=1)
    batches = list(islice(chain.from_iterable(map(turns.epoch, (0, 1))), 4))
    assert [set(members.tasks_B.tolist()) for members in batches] == [{0}, {0}, {1}, {1}]
    with pytest.raises(MtlplugError, match=r"draws \[0, 0, 32, 0\] features in epoch 3 of tasks"):
        turns.drawn(2)  # of the task without features
    wrong = mixed_pool(SIZES, make_mix("wrong", registry), 16, seed=1)
    with pytest.raises(MtlplugError, match=r"in every epoch of the same sum \(here 1\)"):
        wrong.drawn(1)
    with pytest.raises(MtlplugError, match=r"mix 'turns:a' of plugin 'x' of one 1\.5: ValueError"):
        make_mix("turns:a", registry)
    with pytest.raises(MtlplugError, match=r"unknown mix 'turn' \(did you mean 'turns'\?\);"):
        make_mix("turn", registry)
    assert "turns" not in OURS


def test_a_suite_names_a_mix(tmp_path: Path) -> None:
    """`mix` in a suite's defaults is checked before data is read."""
    suite = tmp_path / "s.toml"
    suite.write_text(
        'defaults = { mix = "capped", model = "m" }\n'
        '[tasks.a]\nformat = "C"\ntrain = "a.tsv"\nvalid = "a.tsv"\n'
    )
    result = command("run", "--groups", "a", "--suite", suite)
    assert result.exit_code == 2
    assert "mix 'capped': it takes a number of 1 or more, as in capped:10000" in result.stderr
