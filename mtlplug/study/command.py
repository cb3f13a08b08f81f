"""`mtlplug study`: plan, run, status, report."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from mtlplug.errors import MtlplugError, StoppedError
from mtlplug.pages.table import Table, row_of
from mtlplug.pages.typesetting import new_console, print_table
from mtlplug.pages.wording import duration, plural
from mtlplug.plugin_manager import load_plugins
from mtlplug.study.collect import collect
from mtlplug.study.driver import drive
from mtlplug.study.estimate import Rest, rest_of
from mtlplug.study.executors import Ended, Resources, make_executor
from mtlplug.study.ledger import Ledger
from mtlplug.study.opening import Study, agree, open_study
from mtlplug.study.overview import State
from mtlplug.study.plan import as_options
from mtlplug.study.results import BASELINE, FAILED
from mtlplug.study.settings import FINETUNE, PRETRAIN, Settings
from mtlplug.study.writing import write_report


def plan_study(options: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Show the cells, what is done, what is left and what it will take; nothing runs."""
    console = new_console()
    study = open_study(options, given, folder_of(options), console)
    agree(study)
    if study.ledger.study() is None:  # else what is there stays as it was begun
        study.ledger.write_study(study.as_dict())
    state = study.overview.look()
    rest = rest_of(study, state)
    print_table(console, cells_table(study, state, rest))
    show_rest(console, rest, given)


def run_study(options: Mapping[str, Any], given: Mapping[str, Any]) -> int:
    """Run what is missing and write the report; returns the exit code.

    0: all done; 1: some cells failed, the others are done.
    """
    console = new_console()
    folder = folder_of(options)
    study, state = run_missing(options, given, folder, console)
    write_report(collect(study, given.get("price")), folder, console)
    return show_failures(study, state, console)


def run_missing(
    options: Mapping[str, Any], given: Mapping[str, Any], folder: Path, console: Console
) -> tuple[Study, State]:
    """Plan, and run what is missing."""
    Ledger(folder).check_place()
    resources = Resources(
        folder=folder.resolve(),
        workers=given.get("workers"),
        threads=int(given.get("threads") or 1),
        per_gpu=int(given.get("per_gpu") or 1),
        launcher=tuple(given.get("launcher") or ()),
        address=given.get("address"),
        fork=bool(given.get("fork")),
    )
    executor = make_executor(given.get("executor") or "local", resources, load_plugins())
    # To be asked to end is to be interrupted: the pool ends with this process either way.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        study = open_study(options, given, folder, console)
        agree(study)
        if given.get("retry"):
            study.ledger.forget_failures()
        study.ledger.write_study(study.as_dict())
        state = study.overview.look()
        console.print(f"{plural(state.total, 'cell')}, {len(state.done)} done", highlight=False)
        started = time.time()
        state = drive(
            study.overview,
            executor,
            exclusive=bool(resources.launcher),
            tell=Teller(study, console).tell,
        )
    except KeyboardInterrupt:
        told = "interrupted; the same command goes on from here"
        console.print(told)
        raise StoppedError(told) from None
    finally:
        executor.close()
        signal.signal(signal.SIGTERM, before)
    study.ledger.write_study(study.as_dict())
    minutes = (time.time() - started) / 60
    console.print(
        f"{len(state.done)} of {plural(state.total, 'cell')} done, {minutes:.1f} minutes",
        highlight=False,
    )
    return study, state


def show_status(folder: Path) -> None:
    """Where the cells of a study are."""
    console = new_console()
    study = reopen(folder, console)
    state = study.overview.look()
    rest = rest_of(study, state) if state.done else None  # nothing is run to time it
    print_table(console, cells_table(study, state, rest))
    running = [cell for cell in [*state.ready, *state.waiting] if study.ledger.busy(cell.name)]
    for cell in running:
        console.print(f"running: {study.plan.title(cell)}", markup=False, highlight=False)
    if rest:
        show_rest(console, rest, {})
    show_failures(study, state, console)


def report_study(folder: Path, price: float | None) -> None:
    """Write the tables and the page of a study as it is now."""
    console = new_console()
    study = reopen(folder, console)
    write_report(collect(study, price), folder, console)


def reopen(folder: Path, console: Console) -> Study:
    """The study in a folder, as it was last planned.

    Raises:
        MtlplugError: there is none.
    """
    found = Ledger(folder).study()
    if found is None:
        raise MtlplugError(f"{folder} holds no study; start one with mtlplug study run --output")
    given = {"settings": Settings.from_dict(found["settings"]), "threads": found["threads"]}
    return open_study(as_options(found["options"]), given, folder, console)


def folder_of(options: Mapping[str, Any]) -> Path:
    """The study's folder."""
    suite = Path(options.get("suite") or "demo").stem
    return Path(options.get("output") or Path("studies") / suite)


class Teller:
    """Says what a study is doing, cell by cell."""

    def __init__(self, study: Study, console: Console) -> None:
        self._study = study
        self._console = console

    def tell(self, ended: Ended, number: int, total: int) -> None:
        """One line for a cell that ended, as which one of how many."""
        # For the report: scored while all processes are at work, which no fault of it may end.
        with suppress(Exception):
            _ = self._study.targets
        result = self._study.overview.result(ended.cell.name) or {}
        report = result.get("report", {})
        if ended.state == FAILED:
            outcome = f"FAILED: {result.get('error', '')}"
        elif ended.cell.kind == FINETUNE:
            outcome = f"{report['tasks'][ended.cell.target]['score']:.1f}"
        else:
            outcome = (
                f"mean loss {report['best_mean_loss']:.4f}, {plural(report['epochs'], 'epoch')}"
            )
        title = self._study.plan.title(ended.cell)
        self._console.print(
            f"[{number}/{total}] {title}: {outcome} ({ended.seconds:.0f} s)",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def cells_table(study: Study, state: State, rest: Rest | None) -> Table:
    """Cells by column: how many are done, failed, left, and what these take of one worker."""
    rows = []
    sets = {
        "done": state.done,
        "failed": state.failed,
        "ready": state.ready,
        "waiting": state.waiting,
        "lost": state.lost,
    }
    results = collect(study)
    columns = study.plan.settings.columns
    for name in columns:
        counts = {
            key: sum(cell.column == name and cell.kind == FINETUNE for cell in cells)
            for key, cells in sets.items()
        }
        made = [
            key
            for key, cells in sets.items()
            if any(cell.column == name and cell.kind == PRETRAIN for cell in cells)
        ]
        rates = [results.chosen_rate(target, name) for target in study.plan.settings.targets]
        chosen = [rate for rate in rates if rate is not None]
        rows.append(
            row_of(
                name if len(columns) > 1 else study.plan.workspace.config.model,
                "-" if name == BASELINE else {"ready": "to do"}.get(made[0], made[0]),
                f"{counts['done']}",
                f"{counts['failed'] + counts['lost']}",
                f"{counts['ready'] + counts['waiting'] + state.to_come[name]}",
                f"{len(chosen)} of {len(rates)}",
                "-" if rest is None else _between(rest.columns[name]),
            )
        )
    header = (
        "encoder",
        "pre-\nfinetuning",
        "finetuning\ndone",
        "failed",
        "left",
        "best\nrates",
        "left to run",
    )
    return Table("cells", f"study {study.plan.workspace.suite.name}", header, tuple(rows))


def show_rest(console: Console, rest: Rest, given: Mapping[str, Any]) -> None:
    """What the rest takes, in hours and money."""
    least, most = rest.total
    if not most:
        console.print("nothing is left to run")
        return
    basis = f"{plural(rest.measured, 'cell')} done" if rest.measured else "a few steps timed now"
    console.print(
        f"left: {_between(rest.total)} of one worker (all runs stop early, or none), from {basis}",
        highlight=False,
        soft_wrap=True,
    )
    if price := given.get("price"):
        console.print(
            f"at {price:g} an hour: {price * least / 3600:.2f} to {price * most / 3600:.2f}",
            highlight=False,
        )


def show_failures(study: Study, state: State, console: Console) -> int:
    """Name what failed; returns the exit code."""
    for cell in state.failed:
        result = study.overview.result(cell.name) or {}
        console.print(
            f"failed: {study.plan.title(cell)}: {result.get('error', '')}; its output is in "
            f"{study.ledger.log_file(cell.name)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if state.lost:
        console.print(
            f"waiting for an encoder that failed: {plural(len(state.lost), 'cell')}, and what "
            "would repeat the best of them",
            highlight=False,
        )
    if state.failed:
        console.print("run again with --retry to try them again", highlight=False)
    return 1 if state.failed else 0


def _between(seconds: tuple[float, float]) -> str:
    """At least and at most, once where they are written alike.

    >>> _between((3000, 7260)), _between((75, 75)), _between((0, 0))
    ('50 min to 2 h 01', '1 min 15 s', '-')
    """
    least, most = map(duration, seconds)
    if not seconds[1]:
        return "-"
    return most if least == most else f"{least} to {most}"
