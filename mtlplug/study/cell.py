"""One cell, from its claim to its result, wherever it is worked on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import mtlplug
from mtlplug.errors import FULL, BusyError, MtlplugError, NoRoomError, StoppedError
from mtlplug.options import STOPPED as STOPPED_CODE
from mtlplug.plugin_sources import given
from mtlplug.repeating import words_of
from mtlplug.study.ledger import Ledger
from mtlplug.study.plan import Cell, as_options
from mtlplug.study.results import DONE, FAILED
from mtlplug.study.settings import FINETUNE
from mtlplug.study.worker import ALL_DEVICES, DEVICES

BUSY = "busy"
"""What becomes of a cell that another process works on."""

STOPPED = "stopped"
"""What becomes of a cell that a signal ended: nothing is recorded, and it is still to do."""

NO_ROOM = "no room"
"""What becomes of a cell that met a full disk: nothing is recorded; no other would do better."""

SECONDS_BETWEEN_TRIES = 10.0
"""How long a cell waits whose run is still at work: the ranks of a launcher that was killed."""


def run_cell(folder: Path, cell: Cell, launcher: Sequence[str] = ()) -> str:
    """Work on a cell and record what it gave, if it came to an end; returns its state.

    Args:
        folder: of the study.
        cell: what to run; where it is recorded already, nothing is run.
        launcher: command that starts the ranks of a pre-finetuning run, for example
            `deepspeed --hostfile FILE`; none: one process, this one.
    """

    def outcome(ledger: Ledger) -> dict[str, Any]:
        try:
            return {"state": DONE, **_work(ledger, cell, launcher)}
        except StoppedError:
            return {"state": STOPPED}
        except BusyError:
            time.sleep(SECONDS_BETWEEN_TRIES)
            return {"state": BUSY}
        except NoRoomError:
            return {"state": NO_ROOM}
        except Exception as error:  # whatever it is, it is this cell's end and not the study's
            traceback.print_exc()
            sentence = " ".join(str(error).split()) or "no message"
            named = sentence if isinstance(error, MtlplugError) else _named(error, sentence)
            return {"state": FAILED, "error": named}

    return _end(folder, cell, time.time(), outcome)


def run_logged(folder: Path, cell: Cell, launcher: Sequence[str] = ()) -> str:
    """`run_cell`, with everything that is printed, by child processes too, in the cell's log."""
    log = Ledger(folder).log_file(cell.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file, _printing_to(file):
        return run_cell(folder, cell, launcher)


@contextmanager
def _printing_to(file: IO[str]) -> Iterator[None]:
    """Let this process, and what it starts, print into a file."""
    streams = (sys.stdout, sys.stderr)
    before = [os.dup(number) for number in (1, 2)]
    try:
        for number, stream in enumerate(streams, start=1):
            stream.flush()
            os.dup2(file.fileno(), number)
        yield
    finally:
        for number, (stream, old) in enumerate(zip(streams, before, strict=True), start=1):
            stream.flush()
            os.dup2(old, number)
            os.close(old)


def record_crash(folder: Path, cell: Cell, started: float, reason: str) -> str:
    """Note that the process which worked on a cell is gone; returns the cell's state."""
    return _end(folder, cell, started, lambda _: {"state": FAILED, "error": reason})


def _end(
    folder: Path, cell: Cell, started: float, outcome: Callable[[Ledger], dict[str, Any]]
) -> str:
    """Record a cell's outcome, unless it has one or another process holds it; its state."""
    ledger = Ledger(folder)
    with ledger.claimed(cell.name) as lock:
        if lock is None:
            return BUSY
        if state := ledger.state(cell.name):
            return state
        found = outcome(ledger)
        if found["state"] in (DONE, FAILED):
            try:
                ledger.record(cell.name, describe(cell, started) | found)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                return NO_ROOM
        return str(found["state"])


def describe(cell: Cell, started: float) -> dict[str, Any]:
    """What every result begins with."""
    return {
        "cell": cell.name,
        "kind": cell.kind,
        "column": cell.column,
        "target": cell.target,
        "rate": cell.rate,
        "seed": cell.seed,
        "cost": cell.cost,
        "mtlplug": mtlplug.__version__,
        "host": socket.gethostname(),
        "started": round(started, 3),
        "wall": round(time.time() - started, 3),
        "options": dict(cell.options),
        "plugins": given(),
    }


def _work(ledger: Ledger, cell: Cell, launcher: Sequence[str]) -> dict[str, Any]:
    """Train; what the ledger keeps of it."""
    output = output_of(ledger, cell)
    options = {**cell.options, "model": model_of(ledger, cell), "output": str(output)}
    if launcher and cell.kind != FINETUNE:
        report = _launched(launcher, options, output)
    else:
        from mtlplug.training.pretrain import pretrain
        from mtlplug.workspace import open_workspace

        workspace = open_workspace(as_options(options))
        report = pretrain(workspace, only_scores=cell.kind == FINETUNE)
    kept = {key: value for key, value in report.items() if key not in ("model", "suite")}
    place = {} if cell.kind == FINETUNE else {"folder": str(output.relative_to(ledger.folder))}
    return {"report": kept, "curve": curve(output), **place}


def model_of(ledger: Ledger, cell: Cell) -> str:
    """The encoder a cell starts from.

    Raises:
        MtlplugError: the cell that makes it is not done.
    """
    if cell.encoder is None:
        return str(cell.options["model"])
    made = ledger.result(cell.encoder)
    if made is None or made["state"] != DONE:
        raise MtlplugError(
            f"the encoder of column '{cell.column}' is not there; run its cell first"
        )
    # Not the folder that the result names: a result is a file like any other.
    return str(ledger.encoder_folder(cell.column, cell.encoder) / "encoder")


def output_of(ledger: Ledger, cell: Cell) -> Path:
    """The run folder of a cell."""
    if cell.kind == FINETUNE:
        return ledger.run_folder(cell.name)
    return ledger.encoder_folder(cell.column, cell.name)


def curve(output: Path) -> list[dict[str, Any]]:
    """By epoch the mean validation loss and each task's headline score."""
    lines = (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    found = [line for line in map(json.loads, lines) if line["event"] == "validation"]
    return [
        {
            "epoch": line["epoch"] + 1,
            "loss": line["mean_loss"],
            "scores": {task: each["headline"] for task, each in line["scores"].items()},
        }
        for line in found
    ]


def _launched(launcher: Sequence[str], options: Mapping[str, Any], output: Path) -> dict[str, Any]:
    """Run under a launcher, in processes of its own.

    Raises:
        BusyError: those of an earlier launcher are still at work.
        StoppedError: it was asked to end.
        MtlplugError: it cannot be started, or failed.
    """
    from mtlplug.training.folder import RunFolder

    with RunFolder(output).held():
        pass
    script = Path(mtlplug.__file__).with_name("run.py")
    words = [*launcher, str(script), *words_of(options, given())]
    ours = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    if (shown := environment.pop(ALL_DEVICES, None)) is not None:
        environment.pop(DEVICES, None)
        environment |= {DEVICES: shown} if shown else {}
    try:
        ended = subprocess.run(words, env=environment, check=False)
    except OSError as error:
        raise MtlplugError(f"launcher '{launcher[0]}' cannot be started ({error})") from None
    if ended.returncode in (STOPPED_CODE, -signal.SIGTERM, -signal.SIGINT):
        raise StoppedError(f"'{launcher[0]}' was stopped")
    if ended.returncode:
        raise MtlplugError(f"'{' '.join(launcher)}' ended with {ended.returncode}")
    report: dict[str, Any] = json.loads((output / "report.json").read_text(encoding="utf-8"))
    return report


def _named(error: Exception, sentence: str) -> str:
    out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    remedy = "; lower max_tokens, or use gradient_checkpointing" if out_of_memory else ""
    return f"{type(error).__name__}: {sentence[:600]}{remedy}"
