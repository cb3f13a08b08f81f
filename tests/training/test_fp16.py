"""Whole runs in fp16, on any processor.

torch computes in fp16 everywhere; DeepSpeed asks the processor for units that make it quick, and
is told here that there are some.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deepspeed.accelerator import get_accelerator

from mtlplug.training import guard
from mtlplug.training.engine import Engine
from tests import small_suite
from tests.training.runs import read, run
from tests.training.test_resume import ALWAYS, KilledError, at, kill, same


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small suite."""
    return small_suite.write(tmp_path_factory.mktemp("suite"))


@pytest.fixture(autouse=True)
def _fp16_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(get_accelerator()), "is_fp16_supported", lambda self: True)


def scaled(folder: Path, power: int, **more: int) -> tuple[str | Path, ...]:
    """Options of a run in fp16 that begins with a loss scale of 2^power."""
    fp16 = {"enabled": True, "initial_scale_power": power, "hysteresis": 1} | more
    path = folder / "deepspeed.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 1}, "fp16": fp16}))
    return "--precision", "fp16", "--deepspeed-config", path


def test_a_killed_run_goes_on(suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while the loss scale is looked for: it and the steps skipped are as without."""
    options = scaled(tmp_path, 22)
    unbroken, folder = tmp_path / "unbroken", tmp_path / "run"
    result = run(suite, unbroken, *options)
    assert result.exit_code == 0, result.output
    skipped = read(unbroken, "report.json")["skipped_steps"]
    assert 3 < skipped < 12
    with monkeypatch.context() as patched:
        at(patched, Engine, "update", 4, kill)
        assert isinstance(run(suite, folder, *options, *ALWAYS).exception, KilledError)
    result = run(suite, folder, *options, *ALWAYS)
    assert "resuming after step 3" in result.stdout
    assert same(folder, unbroken)


@pytest.mark.parametrize(
    ("least", "told"),
    [(1, "gradients overflowed in fp16 in 5 steps in a row"), (2**38, "at every loss scale")],
)
def test_overflows_without_end_are_told(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: int, told: str
) -> None:
    """Many in a row, or one at the least loss scale there may be, end a run with advice."""
    monkeypatch.setattr(guard, "OVERFLOWS", 5)
    result = run(suite, tmp_path / "run", *scaled(tmp_path, 40, min_loss_scale=least))
    assert result.exit_code == 2
    assert told in result.stderr
    assert "use --precision bf16" in result.stderr
