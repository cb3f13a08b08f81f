"""`mtlplug run --dry-run`: everything is shown, nothing is written; and what cannot fit."""

from __future__ import annotations

from pathlib import Path

import pytest

import mtlplug
from mtlplug.training import memory
from tests import small_suite
from tests.small_suite import command
from tests.training.runs import run


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small suite."""
    return small_suite.write(tmp_path_factory.mktemp("suite"))


def test_a_dry_run(suite: Path, tmp_path: Path) -> None:
    """Options with their origins, rows as the model sees them, memory and time; no folder."""
    folder = tmp_path / "run"
    result = run(suite, folder, "--dry-run", "--set", "seed=5", "--set", "tasks.tags.weight=2")
    assert result.exit_code == 0, result.output
    cells = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines()
    ]
    assert ["seed", "5", "--set"] in cells
    assert ["learning_rate", "0.001", "suite 'tiny'"] in cells
    assert ["weight_decay", "0.0", "default"] in cells
    assert ["tasks", "{'tags': {'weight': 2}}", "--set"] in cells
    for name in ("tags/train.conll, line 1", "spans/train.json", "kinds/train.tsv, line 2"):
        assert name in result.stdout
    assert "memory of a rank:" in result.stdout
    assert "an epoch of 9 steps" in result.stdout
    assert not folder.exists()


def test_longer_than_the_encoder_takes(suite: Path, tmp_path: Path) -> None:
    """It is said where somebody asked for it; our own default is cut in silence."""
    told = "max_length 5000: this encoder takes 64 tokens, longer sequences are cut there"
    options = ("--dry-run", "--groups", "SL")
    assert told in run(suite, tmp_path / "run", *options, "--max-length", "5000").stdout
    assert "this encoder takes" not in run(suite, tmp_path / "run", *options).stdout


def test_a_dry_run_refuses_what_a_run_refuses(suite: Path, tmp_path: Path) -> None:
    """A folder in use, and an unknown group."""
    (tmp_path / "file").write_text("x")
    assert "is not empty and holds no run" in run(suite, tmp_path, "--dry-run").stderr
    wrong = command("run", "--dry-run", "--suite", suite, "--groups", "XX")
    assert (wrong.exit_code, "unknown group 'XX'" in wrong.stderr) == (2, True)


def test_from_python(suite: Path) -> None:
    """The figures come back as values."""
    found = mtlplug.preview(suite, "SL", max_tokens=64)
    assert found["options"]["max_tokens"] == 64
    assert found["memory"]["tokens"] <= 64
    assert found["memory"]["peak"] > found["memory"]["libraries"]
    assert found["seconds"]["training"] > 0


def test_time_of_a_mix(suite: Path) -> None:
    """An epoch is what the mix draws, not all there is."""
    whole, capped = (mtlplug.preview(suite, "SL", mix=mix) for mix in ("proportional", "capped:5"))
    of_evaluation = [each["seconds"]["training"] / each["seconds"]["evaluation"] for each in
                     (whole, capped)]  # fmt: skip
    assert of_evaluation[1] < of_evaluation[0] / 2


def test_a_run_that_cannot_fit(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends before its folder is made, and begins where the user insists."""
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    refused = run(suite, tmp_path / "run", "--max-epochs", "1")
    assert refused.exit_code == 2
    assert "--ignore-memory" in refused.stderr
    assert not (tmp_path / "run").exists()
    assert run(suite, tmp_path / "run", "--max-epochs", "1", "--ignore-memory").exit_code == 0
