"""Opening a finished run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mtlplug
from mtlplug.errors import MtlplugError
from mtlplug.inference.trained import open_run


def test_a_run_opens_with_what_it_was_trained_with(trained: Path) -> None:
    """Encoder, heads, labels, options and tokenizer are there, on the packed road, in eval mode."""
    run = mtlplug.load(trained)
    assert list(run.tasks) == ["tags", "spans", "kinds"] == list(run.heads)
    assert run.tasks["kinds"].labels == ("even", "odd")
    assert run.tasks["tags"].facts["scheme"] == "IOB2"
    assert run.tasks["spans"].options["stride"] == 8
    assert run.encoder.road == "packed"
    assert not any(module.training for module in run.model.modules())
    assert run.encode("spans").max_length == 40
    assert run.encode("kinds").max_length == 48


def test_only_the_heads_asked_for_are_opened(trained: Path) -> None:
    """In the order they were asked for, each once, with the weights that were saved."""
    run = open_run(trained, ["kinds", "tags", "kinds"])
    assert list(run.heads) == ["kinds", "tags"]
    everything = open_run(trained)
    for name, head in run.heads.items():
        ours, theirs = head.state_dict(), everything.heads[name].state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def _without(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def _described(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        run["tasks"]["kinds"] |= values
        (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")

    return change


def _brought_by(distribution: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        _described(format="REG")(folder)
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        run["plugins"].append({"distribution": distribution, "formats": ["REG"]})
        (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (shutil.rmtree, "does not exist; give the folder"),
        (_without("run.json"), "holds no run of mtlplug"),
        (_without("report.json"), "is not complete"),
        (lambda folder: (folder / "report.json").write_text("{}"), "it is no report of a run"),
        (_without("heads"), "has no heads/"),
        (_without("heads/kinds.safetensors"), "cannot be loaded"),
        (_without("encoder/config.json"), "has no config.json"),
        (_described(format="REG"), "format 'REG', which is not installed; installed: C, QA, SL"),
        (_brought_by("reg.py"), "'REG', which is not installed; give -p reg.py; installed: C, QA"),
        (_brought_by("mtlplug-reg"), "'REG', which is not installed; install mtlplug-reg; "),
        (_described(format_version=7), "trained with version 7 of format 'C', and version 1"),
        (_described(labels=["a", "b", "c"]), "size mismatch"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(
    trained: Path, tmp_path: Path, change: Callable[[Path], None], sentence: str
) -> None:
    """What is missing, or does not fit what is installed, is named."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    change(folder)
    with pytest.raises(MtlplugError, match=sentence):
        open_run(folder)


def test_an_unknown_task_lists_the_known(trained: Path) -> None:
    """With the one that may be meant."""
    with pytest.raises(MtlplugError, match=r"no task 'kind' \(did you mean 'kinds'\?\); it has"):
        open_run(trained, ["kind"])
