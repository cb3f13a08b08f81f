"""Runs on an encoder most of whose vocabulary occurs nowhere: what is trained and saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file
from transformers import AutoModel

from mtlplug.training.engine import Engine
from tests import small_suite, toy
from tests.training.runs import equal, lines, read, result_of, run
from tests.training.test_resume import ALWAYS, KilledError, at, kill

VOCABULARY = 400
TABLE = "embeddings.word_embeddings.weight"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small suite with 64 tokens, and an encoder with more."""
    suite = small_suite.write(tmp_path_factory.mktemp("suite"))
    toy.encoder(vocabulary=VOCABULARY).save(suite.parent / "model", toy.tokenizer())
    return suite


@pytest.fixture(scope="module")
def trained(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A run's folder, and what it said."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = run(suite, folder)
    assert result.exit_code == 0, result.output
    return folder, result


def table(folder: Path) -> torch.Tensor:
    """The vocabulary of a saved encoder."""
    return load_file(folder / "model.safetensors")[TABLE]


def test_the_whole_vocabulary_is_saved(suite: Path, trained: tuple[Path, Result]) -> None:
    """Rows that occur nowhere are bit for bit those the run began with."""
    folder, result = trained
    found = read(folder, "report.json")["vocabulary"]
    assert found["of"] == VOCABULARY
    assert 40 < found["rows"] <= 64
    line = f"vocabulary: {found['rows']} of 400 rows occur in these tasks and are trained"
    assert line in result.stdout
    before, after = table(suite.parent / "model"), table(folder / "encoder")
    assert after.shape == before.shape == (VOCABULARY, 16)
    same = (after == before).all(dim=1)
    assert same[64:].all()
    assert 40 < (~same).sum() <= found["rows"]
    model = AutoModel.from_pretrained(folder / "encoder")
    assert model.config.vocab_size == VOCABULARY
    assert torch.equal(model.get_input_embeddings().weight, after)


def test_a_run_that_trains_everything_ends_alike(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit; without clipping, as a norm adds up its squares in another order."""
    unclipped = ("--gradient-clipping", "0")
    assert run(suite, tmp_path / "part", *unclipped).exit_code == 0
    monkeypatch.setattr("mtlplug.model.vocabulary.WORTH", 2.0)
    result = run(suite, tmp_path / "whole", *unclipped)
    assert result.exit_code == 0
    assert "vocabulary:" not in result.stdout
    (report, weights), (expected, others) = map(result_of, (tmp_path / "part", tmp_path / "whole"))
    assert report.pop("vocabulary") is not None
    assert expected.pop("vocabulary") is None
    assert report == expected
    assert equal(weights, others)


def test_a_killed_run_goes_on(
    suite: Path, tmp_path: Path, trained: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit; its checkpoints hold the rows that are trained and no others."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        at(patched, Engine, "update", 13, kill)
        assert isinstance(run(suite, folder, *ALWAYS).exception, KilledError)
    places = sorted((folder / "checkpoints").glob("step-*"))
    shapes = json.loads((places[0] / "progress.json").read_text())["engine"]["shapes"]
    rows = read(trained[0], "report.json")["vocabulary"]["rows"]
    assert shapes[f"encoder.model.{TABLE}"] == [rows, 16]
    result = run(suite, folder, *ALWAYS)
    assert result.exit_code == 0
    assert "resuming after step 12" in result.stdout
    (report, weights), (expected, others) = result_of(folder), result_of(trained[0])
    assert report == expected
    assert lines(folder) == lines(trained[0])
    assert equal(weights, others)


def test_a_checkpoint_of_other_rows_is_refused(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of a version that trained all of them; its numbers would be read as other rows."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr("mtlplug.model.vocabulary.WORTH", 2.0)
        at(patched, Engine, "update", 4, kill)
        assert isinstance(run(suite, folder, *ALWAYS).exception, KilledError)
    refused = run(suite, folder, *ALWAYS)
    assert refused.exit_code == 2
    assert f"{TABLE} has shape [400, 16], not [" in refused.stderr
    assert "--overwrite" in refused.stderr


def test_with_weight_decay_everything_is_trained(suite: Path, tmp_path: Path) -> None:
    """Rows that occur nowhere shrink, as AdamW has it."""
    folder = tmp_path / "run"
    assert run(suite, folder, "--weight-decay", "0.1", "--max-epochs", "1").exit_code == 0
    assert read(folder, "report.json")["vocabulary"] is None
    before, after = table(suite.parent / "model"), table(folder / "encoder")
    assert (after != before).any(dim=1)[64:].all()


def test_a_dry_run_counts_what_is_trained(suite: Path, tmp_path: Path) -> None:
    """Memory is foretold for those parameters."""
    result = run(suite, tmp_path / "run", "--dry-run")
    assert result.exit_code == 0
    assert "of 400 rows occur" in result.stdout
