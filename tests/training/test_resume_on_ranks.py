"""Runs of several processes that were interrupted, and went on with as many, fewer or more."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from tests import small_suite, toy
from tests.small_suite import free_port
from tests.training.runs import lines, read
from tests.training.test_launchers import BIN, ROOT

GROUPS = "QA"
"""Its head has no dropout, nor has the encoder: ranks draw nothing, and results agree."""

VOCABULARY = 400
PLAIN = Path(__file__).with_name("plain_launcher.py")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small tasks with an encoder, most of whose vocabulary no task has."""
    suite = small_suite.write(tmp_path_factory.mktemp("suite"))
    toy.encoder(vocabulary=VOCABULARY).save(suite.parent / "model", toy.tokenizer())
    return suite


def options_of(suite: Path, folder: Path, stage: int) -> list[str]:
    """A run on one format; a checkpoint after every step."""
    config = suite.parent / f"zero{stage}.json"
    sections = {"stage": stage, "stage3_param_persistence_threshold": 100}
    config.write_text(json.dumps({"zero_optimization": sections}))
    return [
        *("--groups", GROUPS, "--suite", str(suite), "--output", str(folder)),
        *("--deepspeed-config", str(config), "--save-minutes", "0", "--max-tokens", "40"),
        *("--max-epochs", "6", "--seed", "20261127"),  # a date, as people take
    ]


def start(
    options: list[str], ranks: int, cwd: Path, *, deepspeed: bool = True
) -> subprocess.Popen[str]:
    """A run under the deepspeed launcher, or under a plain one, which starts sooner."""
    launcher = [str(BIN / "deepspeed"), "--num_gpus", str(ranks), "--master_port", free_port()]
    if not deepspeed:
        launcher = [sys.executable, str(PLAIN), str(ranks), free_port()]
    return subprocess.Popen(
        [*launcher, str(ROOT / "mtlplug" / "run.py"), *options],
        cwd=cwd,
        env=small_suite.outside(OMP_NUM_THREADS="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a signal to all of them does not reach the tests
    )


def complete(options: list[str], ranks: int, cwd: Path) -> str:
    """What a run prints that comes to its end; of one rank it is this process."""
    if ranks == 1:
        result = small_suite.command("run", *options)
        assert result.exit_code == 0, result.output
        return result.output
    launcher = start(options, ranks, cwd, deepspeed=False)
    printed, _ = launcher.communicate(timeout=240)
    assert launcher.returncode == 0, printed
    return printed


def rank_of(launcher: subprocess.Popen[str], rank: int) -> int:
    """The process of a rank."""
    (found,) = [
        each.pid
        for each in psutil.Process(launcher.pid).children(recursive=True)
        if f"--local_rank={rank}" in each.cmdline()
        and "run.py" in " ".join(each.cmdline())
        and "launch" not in " ".join(each.cmdline())
    ]
    return found


def newest(folder: Path) -> int:
    """The step of the newest checkpoint; 0 where there is none."""
    names = (path.name for path in folder.glob("checkpoints/step-*"))
    return max((int(name[5:]) for name in names if name[5:].isdecimal()), default=0)


def wait_for_step(folder: Path, step: int, launcher: subprocess.Popen[str]) -> None:
    """Until a run has a checkpoint of this step, or a later one."""
    deadline = time.monotonic() + 240
    while newest(folder) < step:
        assert launcher.poll() is None, launcher.communicate()[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def unbroken(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one process that nothing interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    complete(options_of(suite, folder, 1), 1, folder.parent)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "ranks", "typed", "deepspeed"),
    [
        (1, (2, 1, 2), False, False),
        (0, (2, 2), True, True),
        (2, (2, 2), False, False),
        (3, (2, 1), False, True),
    ],
)
def test_any_number_of_ranks_goes_on(
    suite: Path,
    unbroken: Path,
    tmp_path: Path,
    stage: int,
    ranks: tuple[int, ...],
    typed: bool,
    deepspeed: bool,
) -> None:
    """Asked to stop by a signal to one rank, a run goes on with another number of them.

    Ctrl-C does the same, which ranks are told of twice: by the terminal and by their launcher.
    Batches are the same, losses equal within rounding.
    """
    folder = tmp_path / "run"
    options = options_of(suite, folder, stage)
    reached = 1
    for before in ranks[:-1]:
        launcher = start(options, before, tmp_path, deepspeed=deepspeed)
        wait_for_step(folder, reached + 1, launcher)
        if typed:
            os.killpg(launcher.pid, signal.SIGINT)
        else:
            os.kill(rank_of(launcher, before - 1), signal.SIGTERM)
        printed, _ = launcher.communicate(timeout=120)
        assert typed or launcher.returncode == 3, printed
        assert printed.count("the same command goes on from there") == 1
        assert printed.count("resuming after step") == (reached > 1)
        reached = newest(folder)
    printed = complete(options, ranks[-1], tmp_path)
    assert printed.count("resuming after step") == 1
    ours, theirs = losses(folder), losses(unbroken)
    assert ours == pytest.approx(theirs, rel=1e-4)
    assert len(set(theirs.values())) > 3
    trained = [read(each, "report.json")["vocabulary"] for each in (folder, unbroken)]
    assert trained[0] == trained[1] == {"rows": trained[0]["rows"], "of": VOCABULARY}
    saved = load_file(folder / "encoder" / "model.safetensors")
    assert len(saved["embeddings.word_embeddings.weight"]) == VOCABULARY


def losses(folder: Path) -> dict[int, float]:
    """Mean losses by step, and of the epochs by their negative number."""
    found = {line["step"]: line["loss"] for line in lines(folder) if line["event"] == "step"}
    scored = [line for line in lines(folder) if line["event"] == "validation"]
    return found | {-1 - line["epoch"]: line["mean_loss"] for line in scored}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "told", "limit"),
    [
        (signal.SIGKILL, r"rank 1 \(process \d+ on .*\) is gone, after step \d+", "120"),
        (signal.SIGSTOP, r"rank 1 .* does not answer after step \d+, for more than 6 s", "6"),
    ],
)
def test_a_rank_that_is_gone_or_hangs(
    suite: Path, tmp_path: Path, sent: signal.Signals, told: str, limit: str
) -> None:
    """It is named, all processes end soon, and the same command goes on."""
    folder = tmp_path / "run"
    options = [*options_of(suite, folder, 1), "--hang-seconds", limit, "--max-epochs", "400"]
    launcher = start(options, 2, tmp_path)
    wait_for_step(folder, 2, launcher)
    processes = psutil.Process(launcher.pid).children(recursive=True)
    os.kill(rank_of(launcher, 1), sent)
    sent_at = time.monotonic()
    printed, _ = launcher.communicate(timeout=120)
    took = time.monotonic() - sent_at
    assert launcher.returncode != 0
    assert re.search(told, printed), printed
    _, left = psutil.wait_procs(processes, timeout=10)
    assert [each for each in left if each.status() != psutil.STATUS_ZOMBIE] == []
    # The launcher gives a stopped process half a minute before it kills it.
    assert took < (20 if sent == signal.SIGKILL else 60)
