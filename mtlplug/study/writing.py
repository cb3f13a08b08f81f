"""Puts the results of a study into files, and its main tables on the terminal.

results.json       everything, as values (`Results`)
tables/NAME.EXT    every table as Markdown, LaTeX, CSV and JSON
report.html        the page, self-contained
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from mtlplug.pages.typesetting import RENDERERS, print_table
from mtlplug.study.costs import costs
from mtlplug.study.findings import Study, findings
from mtlplug.study.ledger import unfinished_of, write_json
from mtlplug.study.page import all_tables, page
from mtlplug.study.results import Results
from mtlplug.study.tables import table_1, table_2

RESULTS = "results.json"
PAGE = "report.html"


def write_report(results: Results, folder: Path, console: Console) -> None:
    """Write all files, each by a rename; show the tables of scores and costs, and what they say."""
    write_json(folder / RESULTS, results.as_dict())
    place = folder / "tables"
    place.mkdir(exist_ok=True)
    for table in all_tables(results):
        for ending, render in RENDERERS.items():
            _write(place / f"{table.name}{ending}", render(table))
    _write(folder / PAGE, page(results))
    for table in (table_1(results), table_2(results), costs(results)):
        if table.rows:
            print_table(console, table)
    for sentence in findings(Study(results)):
        console.print(sentence, markup=False, highlight=False)
    console.print(f"page: {folder / PAGE}", markup=False, highlight=False, soft_wrap=True)


def _write(path: Path, text: str) -> None:
    unfinished = unfinished_of(path)
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
