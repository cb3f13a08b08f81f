"""What a study consists of: the suite's table, the command's options, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mtlplug.errors import MtlplugError
from mtlplug.study.settings import RATES, SEEDS, Settings, settings_of
from mtlplug.workspace import Workspace, open_workspace
from tests.study import tiny


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The tiny suite."""
    return open_workspace({"suite": str(tiny.write(tmp_path_factory.mktemp("tiny")))})


def test_the_table_of_the_suite_is_taken(workspace: Workspace) -> None:
    """Columns begin with the baseline; targets are the tasks of that role."""
    assert settings_of(workspace, {}) == Settings(
        columns=("baseline", "SL", "SL+C"),
        targets=("more_tags", "more_kinds"),
        rates=(1e-2, 1e-3),
        seeds=(1, 2),
        pretrain={"max_epochs": 1},
        finetune={"batch_size": 4},
    )


def test_options_go_before_the_table(workspace: Workspace) -> None:
    """Each alone; of `finetune` and `pretrain` key by key."""
    found = settings_of(
        workspace,
        {
            "groups": "QA",
            "targets": "kinds,more_tags",
            "rates": [1e-4, 1e-3, 1e-4],
            "seeds": [7],
            "finetune": {"max-epochs": 3},
        },
    )
    assert found.columns == ("baseline", "QA")
    assert found.targets == ("more_tags", "kinds")  # those of a format together
    assert (found.rates, found.seeds) == ((1e-3, 1e-4), (7,))
    assert found.finetune == {"batch_size": 4, "max_epochs": 3}


def test_an_option_of_the_command_goes_before_the_table(workspace: Workspace) -> None:
    """A run of the study gets it with all others; only `--finetune` says otherwise."""
    options = {"suite": str(workspace.suite.path), "batch_size": 2, "max_epochs": None}
    given = open_workspace(options)
    found = settings_of(given, {})
    assert found.finetune == {}
    assert found.pretrain == {"max_epochs": 1}
    assert settings_of(given, {"finetune": {"batch_size": 8}}).finetune == {"batch_size": 8}


def test_what_an_encoder_has_seen_is_no_target(workspace: Workspace) -> None:
    """It would stand in the tables as unseen."""
    with pytest.raises(MtlplugError, match=r"target 'kinds' is one of the tasks of 'SL\+C'"):
        settings_of(workspace, {"groups": "SL,SL+C", "targets": "more_tags,kinds"})


def test_all_is_every_combination(workspace: Workspace) -> None:
    """Seven of three groups, and the baseline."""
    columns = settings_of(workspace, {"groups": "all"}).columns
    assert columns == ("baseline", "SL", "QA", "C", "SL+QA", "SL+C", "QA+C", "SL+QA+C")


def test_equal_combinations_are_one(workspace: Workspace) -> None:
    """Blanks and the order of groups make no other column; the first spelling is its name."""
    columns = settings_of(workspace, {"groups": "SL + C,C+SL,SL+C,QA"}).columns
    assert columns == ("baseline", "SL+C", "QA")


def test_defaults_are_those_of_the_paper() -> None:
    """Rates from 1e-3 to 1e-5, five seeds (Padmakumar et al., 2022, appendix B.2)."""
    assert (RATES[0], RATES[-1], len(SEEDS)) == (1e-3, 1e-5, 5)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"groups": "SL,XX"}, "unknown group 'XX'"),
        ({"targets": "nothing"}, "unknown target 'nothing'; known"),
        (
            {"targets": "more_tag"},
            r"unknown target 'more_tag' \(did you mean 'more_tags'\?\); known",
        ),
        ({"rates": [2.0]}, "learning rate 2.0 of the sweep"),
        ({"seeds": [-1]}, "seed -1 of the study"),
        ({"finetune": {"learning_rate": 0.1}}, "^--finetune: unknown option 'learning_rate'"),
        ({"pretrain": {"seed": 1}}, "^--pretrain: unknown option 'seed'"),
        ({"pretrain": {"max_epoch": 1}}, r"'max_epoch' \(did you mean 'max_epochs'\?\)"),
        ({"pretrain": {"max_epochs": "one"}}, "^--pretrain: option 'max_epochs' is 'one'; it sho"),
        ({"pretrain": {"max_epochs": 0}}, "^--pretrain: --max-epochs is 0; it must be 1 or more"),
    ],
)
def test_what_is_wrong_is_named(
    workspace: Workspace, given: dict[str, object], sentence: str
) -> None:
    """One sentence each."""
    with pytest.raises(MtlplugError, match=sentence):
        settings_of(workspace, given)


def test_a_wrong_table_is_blamed_on_the_suite(workspace: Workspace) -> None:
    """Whatever else is given on the command line."""
    study = {**workspace.suite.study, "finetune": {"batch_size": "all"}}
    suite = replace(workspace.suite, study=study)
    with pytest.raises(MtlplugError, match=r"tiny\.toml: \[study.finetune\]: option 'batch_size'"):
        settings_of(replace(workspace, suite=suite), {"finetune": {"max_epochs": 1}})


def test_a_suite_without_targets_says_so(tmp_path: Path) -> None:
    """With what to do."""
    from tests import small_suite

    workspace = open_workspace({"suite": str(small_suite.write(tmp_path))})
    with pytest.raises(MtlplugError, match="name tasks with --targets"):
        settings_of(workspace, {})
