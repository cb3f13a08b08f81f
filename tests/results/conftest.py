"""Two finished runs of the small suite, shared by all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import small_suite
from tests.training.runs import run


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the small suite."""
    return small_suite.write(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="session")
def runs(suite: Path) -> tuple[Path, Path]:
    """A run that learns something, and one that learns next to nothing."""
    folders = suite.parent / "good", suite.parent / "poor"
    for folder, rate, epochs in zip(folders, ("0.02", "1e-6"), ("8", "1"), strict=True):
        result = run(suite, folder, "--learning-rate", rate, "--max-epochs", epochs)
        assert result.exit_code == 0, result.output
    return folders


@pytest.fixture
def unfinished(runs: tuple[Path, Path], tmp_path: Path) -> Path:
    """The files of a run that was interrupted in its second epoch."""
    folder = tmp_path / "unfinished"
    folder.mkdir()
    (folder / "run.json").write_bytes((runs[0] / "run.json").read_bytes())
    lines = (runs[0] / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "metrics.jsonl").write_text("\n".join(lines[:7]) + '\n{"epo', encoding="utf-8")
    return folder
