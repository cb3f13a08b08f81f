"""Cells are named by everything that decides their result, and by nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mtlplug.errors import MtlplugError
from mtlplug.plugin_manager import Plugins
from mtlplug.plugin_registry import Registry
from mtlplug.study.opening import Study, open_study
from mtlplug.study.plan import Plan
from mtlplug.study.results import BASELINE
from tests.study import tiny

QUIET = Console(quiet=True)


def opened(suite: Path, folder: Path, **given: Any) -> Study:
    """The tiny study, planned."""
    return open_study({"suite": str(suite)}, given, folder, QUIET)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The tiny study as the suite has it."""
    suite = tiny.write(tmp_path_factory.mktemp("tiny"))
    return opened(suite, suite.parent / "study")


def names(plan: Plan) -> list[str]:
    """Of all cells that are known at the start."""
    return [cell.name for cell in [*plan.pretrain_cells(), *plan.sweep_cells()]]


def test_cells_of_a_study(study: Study) -> None:
    """2 encoders; 3 columns x 2 targets x 2 rates; each name once."""
    assert len(study.plan.pretrain_cells()) == 2
    assert len(list(study.plan.sweep_cells())) == 12
    assert len(set(names(study.plan))) == 14


def test_names_are_the_same_in_another_folder(study: Study, tmp_path: Path) -> None:
    """Data and encoder count by their content, not by where they are."""
    elsewhere = opened(tiny.write(tmp_path), tmp_path / "other")
    assert names(elsewhere.plan) == names(study.plan)


OPTIONS = ("mix", "weighting")

KINDS = {"mix": "mix", "loss weighting": "weighting"}

CHANGES: dict[str, Callable[[Plan], Plan]] = {
    "precision": lambda plan: replace(plan, options={**plan.options, "precision": "bf16"}),
    "threads": lambda plan: replace(plan, threads=2),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_decides_all_results_renames_all_cells(study: Study, what: str) -> None:
    """No cell keeps its name."""
    assert not set(names(CHANGES[what](study.plan))) & set(names(study.plan))


@pytest.mark.parametrize(
    "option", [{"max_epochs": 2}, {"mix": "capped:6"}, {"weighting": "uncertainty"}]
)
def test_other_pre_finetuning_renames_what_follows_from_it(
    study: Study, option: dict[str, Any]
) -> None:
    """The baseline's cells stay."""
    settings = replace(study.plan.settings, pretrain=option)
    kept = set(names(replace(study.plan, settings=settings))) & set(names(study.plan))
    assert kept == {cell.name for cell in study.plan.sweep_cells() if cell.column == BASELINE}


def test_the_code_of_a_plugin_decides(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an author edits in a mix or a weighting is another mix or weighting."""
    monkeypatch.syspath_prepend(tmp_path)

    def named(version: str) -> set[str]:
        (tmp_path / f"brought_{version}.py").write_text(
            f"# {version}\n"
            "def mix(parameter):\n    return lambda sizes, epoch: list(sizes.values())\n"
            "def weighting(parameter):\n    return lambda tasks: None\n"
        )
        module = importlib.import_module(f"brought_{version}")
        registry = Registry()
        brought = {kind: {"own": partial(getattr(module, name))} for kind, name in KINDS.items()}
        registry.add("plugin 'x' of one 1.5", brought, "")
        workspace = replace(study.plan.workspace, plugins=Plugins(registry=registry))
        return {
            replace(study.plan, workspace=workspace, settings=settings).pretrain_cells()[0].name
            for settings in (replace(study.plan.settings, pretrain={k: "own"}) for k in OPTIONS)
        }

    assert not named("first") & named("second")
    assert named("first") == named("first")


def test_a_mix_decides_what_a_cell_costs(study: Study) -> None:
    """A quarter of the features costs about a quarter, validation apart; wrong ones are refused."""

    def cost(mix: str, weighting: str = "none") -> float:
        options = {"mix": mix, "weighting": weighting}
        plan = replace(study.plan, settings=replace(study.plan.settings, pretrain=options))
        return plan.pretrain_cells()[0].cost

    validation = (cost("capped:6") * 4 - cost("proportional")) / 3
    assert 0 < validation < cost("capped:6") < cost("capped:12") < cost("proportional")
    with pytest.raises(MtlplugError, match="unknown mix 'cap'"):
        cost("cap:6")
    with pytest.raises(MtlplugError, match="unknown loss weighting 'kendall'"):
        cost("uniform", "kendall")


def test_other_data_rename_their_cells(study: Study, tmp_path: Path) -> None:
    """One more row of one task: the cells that do not see it stay."""
    suite = tiny.write(tmp_path)
    table = tmp_path / "kinds" / "train.tsv"
    table.write_text(table.read_text() + "w1 w2\teven\n")
    kept = set(names(opened(suite, tmp_path / "study").plan)) & set(names(study.plan))
    expected = {c.name for c in study.plan.pretrain_cells() if c.column == "SL"} | {
        c.name
        for c in study.plan.sweep_cells()
        if c.target == "more_tags" and c.column in (BASELINE, "SL")
    }
    assert kept == expected


def test_another_encoder_renames_all(study: Study, tmp_path: Path) -> None:
    """A different weight is a different encoder, whatever its folder is called."""
    from tests import toy

    suite = tiny.write(tmp_path)
    encoder = toy.encoder()
    next(encoder.parameters()).data[0, 0] += 1
    encoder.save(tmp_path / "model", toy.tokenizer())
    assert not set(names(opened(suite, tmp_path / "study").plan)) & set(names(study.plan))


def test_targets_know_what_needs_no_model(study: Study) -> None:
    """Chance and the majority's score, where the format has them."""
    tags, kinds = study.targets
    assert (tags.name, tags.group, tags.metric, tags.train, tags.valid) == (
        "more_tags", "SL", "f1", 24, 8,
    )  # fmt: skip
    assert tags.majority is not None
    assert kinds.chance is not None
    assert kinds.majority is not None
    assert 30 < kinds.chance < 70
