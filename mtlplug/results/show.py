"""`mtlplug show`: a run in the terminal, or as a page."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from mtlplug.errors import MtlplugError
from mtlplug.pages.typesetting import new_console, print_table
from mtlplug.results.records import Record, read_record
from mtlplug.results.tables import all_tables, state_of


def show(folder: Path, html: Path | None = None) -> Record:
    """Print a run, finished or not; with `html` write its page instead.

    Raises:
        MtlplugError: the folder holds no run, or the page cannot be written.
    """
    record = read_record(folder)
    console = new_console()
    if html is None:
        _print(console, record)
        return record
    from mtlplug.results.page import page

    text = page(record)
    html = html.absolute()  # "." has no name
    unfinished = html.with_name(html.name + ".tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(html)
    except OSError as error:
        raise MtlplugError(
            f"page {html} cannot be written ({error.strerror}); name another file with --html"
        ) from None
    console.print(f"page: {html}", markup=False, highlight=False, soft_wrap=True)
    return record


def _print(console: Console, record: Record) -> None:
    options = record.run["options"]
    for line in (
        f"run {record.folder}: {state_of(record)}",
        f"groups {options['groups']} of suite {options['suite']}, model {options['model']}",
        f"mix {record.mix}",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for table in all_tables(record):
        print_table(console, table)
