"""A table for the terminal, for Markdown, LaTeX and spreadsheets, and as JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import rich.table
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.text import Text

from mtlplug.pages.table import NOTHING, Cell, Table

EXTRA = ("deviation", "low", "high", "mark")
"""What a cell may hold beside its number; in CSV a column of its own after the figure's."""

IN_LATEX = {
    "\\": r"\textbackslash{}",
    **{each: f"\\{each}" for each in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "✗": r"$\times$",
    "*": r"$\ast$",
}

FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""Begins what LaTeX makes smaller where it would not fit: eight columns and more do not."""


def new_console(*, quiet: bool = False) -> Console:
    """A console as wide as the terminal; wide enough for our tables where there is none."""
    console = Console(quiet=quiet)
    return console if console.is_terminal else Console(quiet=quiet, width=130)


def print_table(console: Console, table: Table) -> None:
    """On the terminal; what is too wide for it in parts, each with the columns of words."""
    parts = [*_parts(table, console.width)]
    for number, columns in enumerate(parts, 1):
        title = f"{table.title} ({number} of {len(parts)})" if len(parts) > 1 else table.title
        part = dataclasses.replace(
            table,
            title=title,
            header=tuple(table.header[column] for column in columns),
            rows=tuple(tuple(row[column] for column in columns) for row in table.rows),
            notes=table.notes if number == len(parts) else (),
            remarks=sum(column >= len(table.header) - table.remarks for column in columns),
        )
        console.print(to_rich(part, console.width))


def _parts(table: Table, width: int) -> Iterator[list[int]]:
    """Numbers of columns that fit side by side, those of words first in every part."""
    needed, _ = _widths(table)
    words = list(range(table.words))
    part = words.copy()
    for column in range(table.words, len(table.header)):
        if len(part) > len(words) and _whole([needed[each] for each in (*part, column)]) > width:
            yield part
            part = words.copy()
        part.append(column)
    yield part


def _widths(table: Table) -> tuple[list[int], list[int]]:
    """Characters of each column: below which it breaks a figure or a word, and for one line."""
    needed, enough = [], []
    for column, name in enumerate(table.header):
        cells = [row[column] for row in table.rows]
        lines = [*name.split("\n"), *(cell.text + cell.mark for cell in cells)]
        figures = [
            cell.text + cell.mark
            for cell in cells
            if cell.number is not None or table.of_figures(column)
        ]
        words = [word for line in lines if line not in figures for word in line.split()]
        needed.append(max(map(cell_len, [*figures, *words]), default=0))
        enough.append(max(map(cell_len, lines)))
    return needed, enough


def _whole(widths: Sequence[int]) -> int:
    """Characters of a table with blanks and lines."""
    return 1 + sum(width + 3 for width in widths)


def to_rich(table: Table, width: int) -> rich.table.Table:
    """For a terminal of so many characters."""
    needed, enough = _widths(table)
    room = width - _whole(needed)
    # Rich would break figures, too: it shares what is missing among all columns.
    share = min(1.0, room / max(1, sum(enough) - sum(needed)))
    widths = [
        least + int(share * (most - least)) if room >= 0 else None
        for least, most in zip(needed, enough, strict=True)
    ]
    found = rich.table.Table(
        title=Text(table.title),
        title_justify="left",
        caption=Text("\n".join(table.notes)),
        caption_justify="left",
        show_header=any(table.header),
    )
    for number, name in enumerate(table.header):
        justify: JustifyMethod = "right" if table.of_figures(number) else "left"
        found.add_column(Text(name), justify=justify, width=widths[number])
    for number, row in enumerate(table.rows):
        if number in table.rules:
            found.add_section()
        found.add_row(*(Text(c.text + c.mark, style="bold" if c.best else "") for c in row))
    return found


def to_markdown(table: Table) -> str:
    """A table of GitHub's Markdown under its title, the notes as a list."""
    lines = [f"**{_markdown(table.title)}**", ""]
    lines.append(_markdown_row([_markdown(name) for name in table.header]))
    sides = ["---:" if table.of_figures(n) else "---" for n in range(len(table.header))]
    lines.append(_markdown_row(sides))
    for row in table.rows:
        texts = [_markdown(cell.text + cell.mark) for cell in row]
        bold = [f"**{text}**" if c.best else text for c, text in zip(row, texts, strict=True)]
        lines.append(_markdown_row(bold))
    lines += ["", *(f"- {_markdown(note)}" for note in table.notes)] if table.notes else []
    return "\n".join(lines) + "\n"


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    """Words that Markdown takes for words: an underscore inside one needs no backslash."""
    return re.sub(r"[\\|*`<\[\]]|(?<!\w)_|_(?!\w)", r"\\\g<0>", _one_line(text))


def to_latex(table: Table) -> str:
    """A floating table; its document needs the packages booktabs and graphicx, and UTF-8."""
    sides = "".join("r" if table.of_figures(n) else "l" for n in range(len(table.header)))
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(table.title)}}}",
        rf"\label{{tab:{table.name}}}",
        r"\medskip",
        r"\setlength{\tabcolsep}{4pt}",
        FITTED,
        rf"\begin{{tabular}}{{{sides}}}",
        r"\toprule",
        _latex_row([latex(name) for name in table.header]),
        r"\midrule",
    ]
    for number, row in enumerate(table.rows):
        lines += [r"\midrule"] * (number in table.rules)
        lines.append(_latex_row([_latex_cell(cell) for cell in row]))
    lines += [r"\bottomrule", r"\end{tabular}}"]
    lines += [rf"\par\footnotesize {latex(note)}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _latex_row(cells: list[str]) -> str:
    # Braces: a row that begins with a bracket would be taken for an option of the last line break.
    return " & ".join(f"{{{cell}}}" if cell.startswith("[") else cell for cell in cells) + r" \\"


def _latex_cell(cell: Cell) -> str:
    text = "--" if cell.text == NOTHING else latex(cell.text)
    # Deviations in small print: the less a wide table must shrink.
    text = re.sub(r" \$\\pm\$ ([\d.,]+)$", r"{\\scriptsize\\,$\\pm$\\,\1}", text)
    text = rf"\textbf{{{text}}}" if cell.best else text
    return text + (rf"\textsuperscript{{{latex(cell.mark)}}}" if cell.mark else "")


def latex(text: str) -> str:
    r"""Words as LaTeX writes them.

    >>> print(latex("mit_movie: 63 ± 2 %"))
    mit\_movie: 63 $\pm$ 2 \%
    """
    return "".join(IN_LATEX.get(each, each) for each in _one_line(text))


def to_csv(table: Table) -> str:
    """Numbers as they are, not rounded; words where a cell has none, nothing for "-".

    A column whose cells have deviations, intervals or marks is followed by columns of these.
    """
    columns = [[row[number] for row in table.rows] for number in range(len(table.header))]
    extras = [
        [extra for extra in EXTRA if any(getattr(cell, extra) not in (None, "") for cell in cells)]
        for cells in columns
    ]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    header = []
    for name, names in zip(table.header, extras, strict=True):
        header += [name, *(f"{name} {extra}" for extra in names)]
    writer.writerow(header)
    for row in table.rows:
        values: list[object] = []
        for cell, names in zip(row, extras, strict=True):
            text = "" if cell.text == NOTHING else cell.text
            values += [text if cell.number is None else cell.number]
            values += [getattr(cell, extra) for extra in names]
        writer.writerow(values)
    return file.getvalue()


def to_json(table: Table) -> str:
    """Everything the table holds."""
    return json.dumps(dataclasses.asdict(table), ensure_ascii=False, indent=1) + "\n"


def from_json(text: str) -> Table:
    """The table that `to_json` wrote."""
    values: dict[str, Any] = json.loads(text)
    for name in ("header", "notes", "rules"):
        values[name] = tuple(values[name])
    values["rows"] = tuple(tuple(Cell(**cell) for cell in row) for row in values["rows"])
    return Table(**values)


def _one_line(text: str) -> str:
    return " ".join(text.split())


RENDERERS: Mapping[str, Callable[[Table], str]] = {
    ".md": to_markdown,
    ".tex": to_latex,
    ".csv": to_csv,
    ".json": to_json,
}
"""By the ending of the file."""
