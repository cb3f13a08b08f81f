"""`mtlplug data`: whether a suite's data is there, getting it, and a table of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mtlplug.options import CONTEXT, PATH, shown_errors

if TYPE_CHECKING:
    from rich.console import Console

    from mtlplug.data.checks import Finding
    from mtlplug.data.suites import Suite
    from mtlplug.formats import Task, TaskFormat

COLOURS = {"ok": "green", "broken": "red"}
DATA = click.option("--data", type=PATH, help="Folder the suite's relative paths start from.")
TO = click.option("--to", type=PATH, help="Folder of downloads. [MTLPLUG_DOWNLOADS, or the cache]")


@click.group(context_settings=CONTEXT)
def data() -> None:
    """See whether a suite's data is there, and get it."""


@data.command(context_settings=CONTEXT)
@click.argument("suite")
@DATA
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@shown_errors
def doctor(suite: str, data: Path | None, as_json: bool) -> None:
    """Check the data of every task of SUITE, a name or a TOML file.

    Exit code 0: all tasks are ok; 1: some are not; 2: an option is wrong.
    """
    loaded, formats = _open(suite, data)
    from mtlplug.data.checks import all_ok, check_suite

    console = _console(quiet=as_json)
    findings = []
    with console.status("reading the first rows") as status:
        for finding in check_suite(loaded, formats, suite, data):
            findings.append(finding)
            status.update(f"checked {finding.task}")
    if as_json:
        click.echo(json.dumps([each.as_dict() for each in findings], indent=1, default=str))
    else:
        _show(console, loaded, findings)
    sys.exit(0 if all_ok(findings) else 1)


@data.command(context_settings=CONTEXT)
@click.argument("suite")
@click.option("--task", "tasks", multiple=True, help="Only this task or group; may be repeated.")
@TO
@DATA
@shown_errors
def fetch(suite: str, tasks: tuple[str, ...], to: Path | None, data: Path | None) -> None:
    """Download what tasks of SUITE have on the web, checked, going on where it was cut off.

    Files with a url go to the folder of downloads; to read them from another one than the usual,
    set MTLPLUG_DOWNLOADS to it. Datasets of the Hugging Face hub go to that library's own cache.
    Exit code 0: all is here; 1: something could not be got; 2: an option is wrong.
    """
    loaded, _ = _open(suite, data, to)
    from mtlplug.data.fetching import OFFLINE, UnreachableError, offline

    chosen = loaded.select("+".join(tasks)) if tasks else list(loaded.tasks.values())
    console, failed, unreached = _console(), 0, []
    forbidden = offline()  # loading from a hub that does not answer forbids it, too
    for task in chosen:
        try:
            failed += not _fetched(console, task)
        except UnreachableError:
            unreached.append(task.name)
    if unreached:
        why = f"{OFFLINE[0]} forbids the network" if forbidden else "the network cannot be reached"
        remedy = f"unset {OFFLINE[0]}" if forbidden else "go online"
        missing = f"{why}, and these are not here; {remedy} and fetch again"
        _say(console, missing, "red", ", ".join(unreached))
    if to is not None:
        _say(console, "to read from there", "green", f"export MTLPLUG_DOWNLOADS={to.resolve()}")
    sys.exit(1 if failed or unreached else 0)


@data.command(context_settings=CONTEXT)
@click.argument("suite")
@shown_errors
def table(suite: str) -> None:
    """Print the tasks of SUITE as a Markdown table: sources, licences, splits, metrics."""
    loaded, formats = _open(suite, None)
    from mtlplug.data.overview import overview

    click.echo(overview(loaded, formats), nl=False)


def _open(
    name: str, data: Path | None, downloads: Path | None = None
) -> tuple[Suite, dict[str, TaskFormat]]:
    from mtlplug.data.suites import load_suite
    from mtlplug.plugin_manager import load_plugins

    plugins = load_plugins()
    formats = dict(plugins.formats)
    folder = downloads.expanduser() if downloads is not None else None
    return load_suite(name, formats, data, folder, plugins.registry), formats


def _fetched(console: Console, task: Task) -> bool:
    """Get the sources of a task that are on the web; whether none failed.

    Raises:
        UnreachableError: there is no network, or it is forbidden.
    """
    from mtlplug.data.fetching import UnreachableError
    from mtlplug.data.fetching import fetch as download
    from mtlplug.data.hub import load
    from mtlplug.errors import MtlplugError

    done: dict[Any, None] = {}
    try:
        for source in task.sources.values():
            key = source.url or (source.dataset, source.config, source.revision, source.split)
            if key in done:
                continue
            if source.url is not None and source.path is not None:
                with console.status(f"{task.name}: {source.url}"):
                    download(source.url, source.path, source.sha256)
                done[key] = None
            elif source.dataset is not None:
                with console.status(f"{task.name}: {source.place}"):
                    load(source)
                done[key] = None
    except UnreachableError:
        raise
    except MtlplugError as error:
        _say(console, task.name, "red", str(error))
        return False
    what = f"{len(done)} here" if done else "nothing on the web; mtlplug data doctor says more"
    _say(console, task.name, "green" if done else "yellow", what)
    return True


def _say(console: Console, about: str, colour: str, text: str) -> None:
    from rich.markup import escape

    console.print(f"[{colour}]{escape(about)}[/]: {escape(text)}", highlight=False, soft_wrap=True)


def _show(console: Console, suite: Suite, findings: Iterable[Finding]) -> None:
    from collections import Counter

    from rich.markup import escape
    from rich.table import Table

    shown = Table(title=escape(f"suite {suite.name}: {suite.title}"), title_justify="left")
    for column in ("task", "format", "role", "state"):
        shown.add_column(column, no_wrap=True)
    shown.add_column("found", overflow="fold", ratio=1)
    shown.add_column("what to do", overflow="fold", ratio=1)
    states: Counter[str] = Counter()
    for each in findings:
        states[each.state] += 1
        state = f"[{COLOURS.get(each.state, 'yellow')}]{each.state}[/]"
        cells = (each.task, each.format, each.role, state, escape(each.found), escape(each.remedy))
        shown.add_row(*cells)
    console.print(shown)
    console.print(", ".join(f"{number} {state}" for state, number in states.items()))


def _console(*, quiet: bool = False) -> Console:
    """A console as wide as the terminal; wide enough for the table where there is none."""
    from rich.console import Console

    console = Console(quiet=quiet)
    return console if console.is_terminal else Console(quiet=quiet, width=160)
