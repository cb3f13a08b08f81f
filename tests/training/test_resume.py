"""Runs that were interrupted: what they go on from, and that nothing shows it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from mtlplug.training import pretrain
from mtlplug.training.engine import Engine
from mtlplug.training.evaluation import Evaluator
from mtlplug.training.progress import Progress
from mtlplug.training.stopping import EarlyStopping
from tests import small_suite
from tests.training.runs import equal, lines, read, result_of, run

ALWAYS = ("--save-minutes", "0")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small suite."""
    return small_suite.write(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def unbroken(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    result = run(suite, folder)
    assert result.exit_code == 0, result.output
    return folder


def same(folder: Path, other: Path) -> bool:
    """Whether two runs left the same weights, scores and metrics, to the last bit."""
    (report, weights), (expected, others) = result_of(folder), result_of(other)
    assert report == expected
    assert lines(folder) == lines(other)
    return equal(weights, others)


class KilledError(Exception):
    """Stands for a killed process."""


def kill() -> None:
    """End a process at once, as far as a test can."""
    raise KilledError


def ask() -> None:
    """What an operator or a scheduler does."""
    os.kill(os.getpid(), signal.SIGTERM)


def at(
    patched: pytest.MonkeyPatch, owner: Any, name: str, call: int, action: Callable[[], None]
) -> None:
    """Let something happen at this call of a function."""
    function, calls = getattr(owner, name), iter(range(1, 10**6))

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            action()
        return function(*args, **kwargs)

    patched.setattr(owner, name, wrapped)


@pytest.mark.parametrize(
    ("owner", "name", "call", "options", "resumes"),
    [
        (Engine, "update", 4, (), None),  # nothing was saved yet
        (Engine, "capture", 1, (), None),  # after the first epoch's validation
        (Engine, "update", 13, (), "step 9, in epoch 2"),
        (Engine, "capture", 2, (), "step 9, in epoch 2"),
        (pretrain, "save_result", 1, (), "step 18, in epoch 3"),
        (Engine, "update", 4, ALWAYS, "step 3, in epoch 1"),
        (Engine, "update", 13, ALWAYS, "step 12, in epoch 2"),
        (Evaluator, "_scores", 2, ALWAYS, "step 9, in epoch 1"),
    ],
)
def test_a_killed_run_goes_on(
    suite: Path,
    tmp_path: Path,
    unbroken: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    call: int,
    options: tuple[str, ...],
    resumes: str | None,
) -> None:
    """Wherever it was killed, weights, scores and metrics are those of an unbroken run."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        at(patched, owner, name, call, kill)
        assert isinstance(run(suite, folder, *options).exception, KilledError)
    assert not (folder / "report.json").exists()
    result = run(suite, folder, *options)
    assert result.exit_code == 0
    told = [line for line in result.stdout.splitlines() if "resuming" in line]
    assert told == ([f"resuming after {resumes}"] if resumes else [])
    assert same(folder, unbroken)
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize(
    ("owner", "name", "call", "told"),
    [
        (Engine, "update", 4, "stopped by SIGTERM after step 4"),
        (Engine, "evaluate", 1, "stopped by SIGTERM after step 0"),
        (Evaluator, "_scores", 2, "stopped by SIGTERM after step 10"),
    ],
)
def test_a_run_that_is_asked_to_stop(
    suite: Path,
    tmp_path: Path,
    unbroken: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    call: int,
    told: str,
) -> None:
    """It saves, says where it is, exits with 3, and goes on from there."""
    folder = tmp_path / "run"
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patched:
        at(patched, owner, name, call, ask)
        result = run(suite, folder)
    assert result.exit_code == 3
    assert told in result.stdout
    assert signal.getsignal(signal.SIGTERM) == before
    assert run(suite, folder).exit_code == 0
    assert same(folder, unbroken)


def test_a_mix_and_learned_weights_go_on(suite: Path, tmp_path: Path) -> None:
    """In the middle of an epoch, to the last bit; both decide what a run is."""
    options = ("--mix", "temperature:2", "--weighting", "uncertainty", "--weight-decay", "0.01")
    folder, expected = tmp_path / "run", tmp_path / "unbroken"
    assert run(suite, expected, *options).exit_code == 0
    with pytest.MonkeyPatch.context() as patched:
        at(patched, Engine, "update", 13, kill)
        run(suite, folder, *options, *ALWAYS)
    refused = run(suite, folder, "--mix", "uniform")
    assert refused.exit_code == 2
    assert "mix: 'temperature:2' there, 'uniform' now; weighting: 'uncertainty'" in refused.stderr
    result = run(suite, folder, *options)
    assert "resuming after step 12, in epoch 2" in result.stdout
    assert same(folder, expected)


def test_two_runs_at_once_in_one_folder(suite: Path, tmp_path: Path) -> None:
    """The second is refused and changes nothing; when the first is gone, it goes on."""
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patched:
        at(patched, Engine, "update", 4, kill)
        run(suite, folder)
    before = lines(folder)
    with FileLock(folder / "lock"):
        for more in ((), ("--overwrite",)):
            refused = run(suite, folder, *more)
            assert refused.exit_code == 2
            assert f"another run is at work in {folder}" in refused.stderr
    assert lines(folder) == before
    assert run(suite, folder).exit_code == 0
    assert not (folder / "lock").exists()


def test_a_changed_option_must_be_allowed(suite: Path, tmp_path: Path) -> None:
    """What an unfinished run may be changed in is said, and done when it is allowed."""
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patched:
        at(patched, Engine, "update", 13, kill)
        run(suite, folder)
    refused = run(suite, folder, "--max-epochs", "3", "--patience", "1")
    assert refused.exit_code == 2
    assert "max_epochs: 2 there, 3 now; patience: 3 there, 1 now" in refused.stderr
    assert "--allow-change max_epochs --allow-change patience" in refused.stderr
    more = ("--max-epochs", "3", "--allow-change", "max_epochs")
    assert run(suite, folder, *more).exit_code == 0
    assert read(folder, "report.json")["epochs"] == 3
    assert run(suite, folder, "--max-epochs", "4", "--allow-change", "max_epochs").exit_code == 2
    wrong = run(suite, folder, "--allow-change", "batch_size")
    assert wrong.exit_code == 2
    assert "unknown option to change in a run that goes on 'batch_size'" in wrong.stderr


def test_progress_is_kept_as_it_was() -> None:
    """Training goes on while a thread writes it, and what is read back is equal."""
    progress = Progress(EarlyStopping(3), seconds={"training": 1.0}, lowest={"a": 0.5})
    kept = progress.state()
    assert Progress.of(json.loads(json.dumps(kept))) == progress
    progress.seconds["training"] += 1
    progress.lowest["a"] = 0.1
    progress.stopping.update(0, 0.3)
    assert Progress.of(kept) == Progress(
        EarlyStopping(3), seconds={"training": 1.0}, lowest={"a": 0.5}
    )
