"""Thousands of damaged inputs: each is read right or refused in one sentence.

Small valid files of every kind are mutated (bits, bytes, lines, columns, characters, values) and
go the whole way: suite, readers, task format, stores. What is accepted must score 100 gold
against gold (`gold.py`), and rows that were not touched must keep their labels (`untouched.py`).
Readers and a store that are broken on purpose show that shifts are noticed (`broken.py`).

Usage: python benchmarks/reliability/mutations.py --cases 5000 --output FILE
"""

from __future__ import annotations

import faulthandler
import gzip
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import broken
import click
import gold
import mutators
import originals
import untouched
from rich.console import Console
from rich.progress import track
from tally import Case, Found, summary, table

from mtlplug.data.build import Builder, TaskData
from mtlplug.data.suites import load_suite
from mtlplug.errors import LONGEST, MtlplugError
from mtlplug.plugin_manager import load_plugins

LIMIT = 10
"""Seconds that a case may take."""

FORMATS = load_plugins().formats
TOKENIZERS = {"bytes": gold.byte_tokenizer(), "words": gold.word_tokenizer()}
SUITE = "TOML"


class HangError(BaseException):
    """A case took too long; no handler of ordinary errors catches it."""


def make_case(number: int, seed: int) -> Case:
    """A case, from its number and the seed alone."""
    draw = random.Random(f"{seed} {number}")
    kinds = (*originals.KINDS, None)
    kind = kinds[number % len(kinds)]
    tokenizer = draw.choice(["bytes", "bytes", "words"])
    if kind is None:
        files = {name: data for each in originals.KINDS for name, data in each.files().items()}
        name, ways, called = "mine.toml", mutators.TOML, SUITE
        files[name] = originals.SUITE.encode()
    else:
        files = kind.files() | {"mine.toml": kind.tasks.encode()}
        name, called = kind.file.format(draw.choice(originals.SPLITS)), kind.name
        ways = mutators.TABLES if kind.name in ("CoNLL", "TSV") else mutators.JSONS
    inside = name.endswith(".gz") and draw.random() < 0.6  # else the compressed bytes
    content = gzip.decompress(files[name]) if inside else files[name]
    data, names = mutators.mutated(content, ways, draw)
    data = gzip.compress(data, mtime=0) if inside else data
    return Case(number, called, files | {name: data}, files[name], name, names, tokenizer)


def run_case(case: Case) -> Found:
    """Read a case the whole way and judge it."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            with time_limit(LIMIT):
                found = _judged(case, Path(folder))
        except HangError:
            found = Found("hang", f"longer than {LIMIT} s")
        except Exception:
            found = Found("traceback", traceback.format_exc(limit=-4))
    found.seconds = time.perf_counter() - started
    return found


def _judged(case: Case, folder: Path) -> Found:
    for name, content in case.files.items():
        (folder / name).write_bytes(content)
    try:
        built = list(_built(case, folder))
    except MtlplugError as error:
        return _refusal(case, str(error).replace(str(folder), "FOLDER"))
    found = Found("accepted")
    for data in built:
        for store in data.stores.values():
            found.counts.update(store.meta["counts"])
        _check(case, data, found)
    if found.says:
        found.outcome = "label shift"
    elif found.counts:
        found.outcome = "repaired"
    return found


def _built(case: Case, folder: Path) -> Iterator[TaskData]:
    suite = load_suite(str(folder / "mine.toml"), FORMATS)
    builder = Builder(TOKENIZERS[case.tokenizer], folder / "cache", max_length=512, limit=1024)
    for task in suite.tasks.values():
        yield builder.build(task, FORMATS[task.format], list(task.sources))


def _refusal(case: Case, says: str) -> Found:
    """A refusal is good if it is one sentence and says where."""
    named = case.file in says or "task '" in says
    lower = not says[:1].isupper() or says.startswith("FOLDER")
    one_line = says.isprintable() and len(says) <= LONGEST + 10
    return Found("refused" if named and lower and one_line else "bad sentence", says)


def _check(case: Case, data: TaskData, found: Found) -> None:
    """Note where labels are not those of the file."""
    checked = gold.Gold(data, TOKENIZERS[case.tokenizer])
    splits = [split for split in data.stores if split != "train"]
    faults = [f"{split}: {fault}" for split in splits for fault in checked.faults(split)]
    if case.tokenizer == "bytes" and case.kind != SUITE:
        split = case.file.split(".")[0]
        wanted = untouched.expected(case.kind, case.original, case.files[case.file])
        gone = untouched.lost(wanted, list(checked.stored(split)))
        faults += [f"{split}: not stored with its label: {row!r:.300}" for row in gone]
        found.untouched = len(wanted)
    found.says = "; ".join([found.says, *faults] if found.says else faults)


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Stop what takes longer; what cannot be stopped from Python ends the process."""

    def stop(*_: Any) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, stop)
    faulthandler.dump_traceback_later(6 * seconds, exit=True)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def controls() -> dict[str, str]:
    """What becomes of whole files where something shifts labels by one: it must be seen.

    A broken reader is seen by the texts read back from the tokens, a broken store by gold
    against gold.
    """
    found = {}
    for kind in originals.KINDS:
        files = kind.files() | {"mine.toml": kind.tasks.encode()}
        name = kind.file.format("train")
        case = Case(0, kind.name, files, files[name], name, [], "bytes")
        if kind.name in broken.READERS:
            with broken.reader(kind.name):
                found[f"{kind.name}: reader"] = run_case(case).outcome
        with broken.store():
            found[f"{kind.name}: store"] = run_case(replace(case, tokenizer="words")).outcome
    return found


# ---- the command ----


@click.command()
@click.option("--cases", default=5000, show_default=True, type=click.IntRange(1))
@click.option("--first", default=0, show_default=True, help="Number of the first case.")
@click.option("--seed", default=0, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def main(cases: int, first: int, seed: int, output: Path | None) -> None:
    """Print what became of damaged inputs; exit code 1 if any was not met with a sentence."""
    console = Console(width=100)
    found: list[tuple[Case, Found]] = []
    started, cpu = time.perf_counter(), time.process_time()
    for number in track(range(first, first + cases), "reading", console=console, transient=True):
        case = make_case(number, seed)
        became = run_case(case)
        found.append((replace(case, files={}, original=b""), became))
    result = {
        "command": f"python benchmarks/reliability/mutations.py --cases {cases} --seed {seed}",
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        **summary(found),
        "controls": controls(),
    }
    console.print(table(result))
    for failure in result["failures"][:20]:
        console.print(str(failure)[:600], highlight=False, markup=False)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.exit(1 if result["failures"] or set(result["controls"].values()) != {"label shift"} else 0)


if __name__ == "__main__":
    main()
