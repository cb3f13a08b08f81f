"""The comparison with other tools: its pace, its figures, its data, and its validation loss."""

from __future__ import annotations

import sys
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from mtlplug.formats import Row
from mtlplug.plugin_manager import load_plugins
from mtlplug.ragged import Splits

PEERS = Path(__file__).resolve().parents[2] / "benchmarks" / "peers"
sys.path.insert(0, str(PEERS))

import environments  # noqa: E402
import prepare  # noqa: E402
import report  # noqa: E402
import scoring  # noqa: E402
import turns  # noqa: E402
import worker  # noqa: E402


def block(rows: float, seconds: float) -> dict[str, Any]:
    """A block of ten tokens a row, a fifth of them padding."""
    counts = {"rows": rows, "features": rows, "tokens": 8 * rows, "computed": 10 * rows}
    return {**counts, "seconds": seconds, "cpu_seconds": seconds / 2, "peak_mb": int(rows)}


@pytest.mark.parametrize(("steps", "rounds"), [(12, 4), (6, 4), (3, 2), (40, 7)])
def test_pauses_cover_the_epoch(steps: int, rounds: int) -> None:
    """A worker pauses after its first step and then `rounds` times, the last time at the end."""
    pauses = worker.boundaries(steps, rounds)
    assert pauses[0] == 1
    assert pauses[-1] == steps
    assert len(pauses) == rounds + 1
    sizes = [after - before for before, after in pairwise(pauses)]
    assert max(sizes) - min(sizes) <= 1


def test_rounds_leave_out_the_first_block_and_epochs_hold_all() -> None:
    """The rounds do not know of the block that warms up; the epochs are the same rows for all."""
    ours = [block(100, 5), block(100, 1), block(100, 2)]
    theirs = [block(150, 8), block(100, 4), block(50, 2)]
    figures = report.ratios(ours, theirs)
    assert report.summary(ours)["rows_per_second"] == 37.5
    assert figures["rounds"] == [4.0, 2.0]
    assert (figures["median"], figures["low"], figures["high"]) == (3.0, 2.0, 4.0)
    assert figures["epoch"] == pytest.approx(14 / 8)


def test_failed_tool_has_its_reason_in_the_table() -> None:
    """A tool that could not run says why; the others keep their figures."""
    tools = {
        "mtlplug": {"status": "ok", "blocks": [block(1, 1), block(9, 1)], "losses": {"a": 1.0}},
        "other": {"status": "no checkout: give its folder with --machamp"},
    }
    report.complete(tools)
    console = Console(width=120, record=True, quiet=False)
    measured = {"rows": 9, "tools": tools, "uniform_loss": 2.0}
    with console.capture() as captured:
        console.print(report.table("SL+C", measured))
    assert "other: no checkout" in captured.get()
    assert "5.0" in captured.get()


def test_last_line_prefers_pips_error() -> None:
    """The reason is pip's error, or the exception, not a note printed after it."""
    assert environments.last_line("ERROR: no such package\n[notice] a new pip\n").endswith(
        "package"
    )
    assert environments.last_line("Traceback\nKeyError: 'x'\n") == "KeyError: 'x'"
    assert environments.last_line("") == "it said nothing"


@pytest.mark.parametrize("code", ["SL", "QA", "C"])
def test_scoring_equals_the_formats_own_loss(code: str) -> None:
    """The loss of other tools' models is the one mtlplug computes of its own."""
    torch.manual_seed(3)
    task_format = load_plugins().formats[code]
    reads = [[0], [0]] if code == "C" else [[0, 2, 3, 5], [0, 1]]
    targets = {"SL": [[2, -100, 1, 0], [-100, -100]], "QA": [[1, 3], [0, 0]], "C": [[1], [2]]}[code]
    scores_BLK = torch.randn(2, 7, 2 if code == "QA" else 3)
    rows_RK = torch.cat([row[chosen] for row, chosen in zip(scores_BLK, reads, strict=True)])
    target = torch.tensor(list(chain.from_iterable(targets)))
    wanted = target.view(-1, 2) if code == "QA" else target
    theirs = task_format.loss(rows_RK, wanted, Splits.of(map(len, reads)))
    given = scores_BLK[:, 0] if code == "C" else scores_BLK
    ours = [scoring.feature_loss(code, *each) for each in zip(given, reads, targets, strict=True)]
    assert torch.stack(ours).tolist() == pytest.approx(theirs.tolist(), abs=1e-6)


def test_answers_that_are_elsewhere_are_left_out() -> None:
    """Some tools trust `answer_start`, so only rows where it is right are given to them."""
    answers = {"text": ["cat"], "answer_start": [4]}
    row = Row({"id": "1", "question": "who?", "context": "the cat", "answers": answers})
    kept = prepare._question(row, "")
    assert kept is not None
    assert kept["answers"] == answers
    row["answers"] = {"text": ["cat"], "answer_start": [3]}
    assert prepare._question(row, "") is None


def test_texts_hold_no_tabs() -> None:
    """A tab inside a text would be a column in machamp's files."""
    row = Row({"text": "a\tb\n c", "label": 0})
    assert prepare._text(row, "") == {"text": "a b c", "text_pair": None, "label": "0"}
    assert prepare._text(Row({"text": "a", "label": "-1"}), "") is None


def test_turns_go_on_without_a_tool_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tools alternate; one that dies is left out with what it said last."""
    head = "import json, sys\ndef send(x): print(json.dumps(x), flush=True); sys.stdin.readline()\n"
    good = "send({'versions': {}, 'steps': 2})\nsend({'rows': 1})\nsend({'rows': 2})\n"
    (tmp_path / "worker_mtlplug.py").write_text(head + good + "send({'losses': {'a': 1.0}})")
    (tmp_path / "worker_tasknet.py").write_text(
        head + "send({'versions': {}, 'steps': 2})\nsend({'rows': 1})\nraise KeyError('oh')"
    )
    monkeypatch.setattr(turns, "HERE", tmp_path)
    job = worker.Job("", "", "", "SL+C", [], 128, 32, 384, 1e-3, 1, 1, 0)
    workers = {
        name: turns.Turn(name, Path(sys.executable), job, tmp_path, 30.0)
        for name in ("mtlplug", "tasknet")
    }
    workers["trainer"] = turns.Turn("trainer", "not installed", job, tmp_path, 30.0)
    results = turns.take_turns(workers, 1, Console(quiet=True))
    assert results["mtlplug"]["blocks"] == [{"rows": 1}, {"rows": 2}]
    assert results["mtlplug"]["losses"] == {"a": 1.0}
    assert "KeyError: 'oh'" in results["tasknet"]["status"]
    assert results["trainer"]["status"] == "not installed"
