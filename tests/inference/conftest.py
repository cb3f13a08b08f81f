"""One finished run of the small suite, shared by the tests of what is done with a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import small_suite
from tests.training.runs import run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of all built-in formats."""
    folder = tmp_path_factory.mktemp("trained")
    suite = small_suite.write(folder / "suite")
    result = run(suite, folder / "run", "--max-epochs", "8", "--learning-rate", "1e-2")
    assert result.exit_code == 0, result.output
    return folder / "run"
