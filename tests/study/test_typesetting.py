"""Every way to put out a table says the same, whatever its words hold."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from mtlplug.pages.table import INCOMPLETE, SAME, Cell, Table, figure, row_of
from mtlplug.pages.typesetting import (
    IN_LATEX,
    RENDERERS,
    from_json,
    latex,
    print_table,
    to_csv,
    to_json,
    to_latex,
    to_markdown,
)

TABLE = Table(
    "small",
    "scores of 100 % [all]",
    ("target", "metric", "SL", "SL+C"),
    (
        (Cell("mit_movie"), Cell("F1"), figure(63.2391, 0.33), figure(64.0, best=True, mark=SAME)),
        (Cell("a|b*"), Cell("F1"), Cell("failed"), figure(None)),
        (Cell("average"), Cell(""), figure(1234.5), Cell("1 to 2", 1.5, low=1.0, high=2.0)),
    ),
    (f"{SAME} the same as <baseline>", "50 % & more"),
    words=2,
    rules=(2,),
)

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=9)
NUMBERS = st.floats(-1e6, 1e6).map(lambda number: round(number, 6))
CELLS = st.builds(
    Cell,
    text=WORDS,
    number=st.none() | NUMBERS,
    deviation=st.none() | NUMBERS,
    mark=st.sampled_from(["", SAME, INCOMPLETE, SAME + INCOMPLETE]),
    best=st.booleans(),
)
TABLES = st.integers(1, 4).flatmap(
    lambda width: st.builds(
        Table,
        name=st.just("any"),
        title=WORDS,
        header=st.tuples(*[WORDS] * width),
        rows=st.lists(st.tuples(*[CELLS] * width), max_size=4).map(tuple),
        notes=st.lists(WORDS, max_size=2).map(tuple),
        words=st.integers(0, width),
    )
)


def from_latex(text: str) -> str:
    """Words that `latex` wrote, read back."""
    back = {written: plain for plain, written in IN_LATEX.items()}
    longest = sorted(back, key=len, reverse=True)
    pattern = "|".join(map(re.escape, longest))
    return re.sub(pattern, lambda found: back[found.group()], text)


def latex_rows(text: str) -> list[list[str]]:
    """The cells between the rules of a LaTeX table, as words."""
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0].replace("\\midrule\n", "")
    rows = []
    for line in body.strip("\n").split("\n"):
        assert line.endswith(r" \\")
        cells = re.split(r"(?<!\\)&", line.removesuffix(r" \\") + " ")
        rows.append([from_latex(bare(cell[1 if n else 0 : -1])) for n, cell in enumerate(cells)])
    return rows


def bare(cell: str) -> str:
    """A cell without bold, raised and small parts."""
    cell = re.sub(r"\\textsuperscript\{((?:[^{}]|\{\})*)\}$", r"\1", cell)
    cell = re.sub(r"^\\textbf\{(.*)\}", r"\1", cell)
    return re.sub(r"\{\\scriptsize\\,(\$\\pm\$)\\,(.*)\}$", r" \1 \2", cell)


@settings(max_examples=60, deadline=None)
@given(TABLES)
def test_csv_reads_back(table: Table) -> None:
    """A standard reader finds every figure unrounded, every word, deviation and mark."""
    header, *rows = list(csv.reader(io.StringIO(to_csv(table))))
    assert len(rows) == len(table.rows)
    for row, cells in zip(rows, table.rows, strict=True):
        assert len(row) == len(header)
        values = iter(row)
        for number, cell in enumerate(cells):
            value = next(values)
            column = [each[number] for each in table.rows]
            if cell.number is None:
                assert value == ("" if cell.text == "-" else cell.text)
            else:
                assert float(value) == cell.number
            if any(each.deviation is not None for each in column):
                found = next(values)
                assert (float(found) if found else None) == cell.deviation
            if any(each.mark for each in column):
                assert next(values) == cell.mark
        assert next(values, None) is None


@settings(max_examples=100, deadline=None)
@given(WORDS)
def test_latex_reads_back(words: str) -> None:
    """Nothing of LaTeX's own is left in words, and they can be read back."""
    written = latex(words)
    assert from_latex(written) == words
    rest = written
    for command in sorted(set(IN_LATEX.values()), key=len, reverse=True):
        rest = rest.replace(command, "")
    assert not set(rest) & set("\\&%$#_{}~^<>*")


def test_latex_table_reads_back() -> None:
    """Rows, cells and marks of the whole table, between booktabs' rules."""
    text = to_latex(TABLE)
    assert latex_rows(text) == [
        ["target", "metric", "SL", "SL+C"],
        ["mit_movie", "F1", "63.24 ± 0.33", f"64.00{SAME}"],
        ["a|b*", "F1", "failed", "--"],
        ["average", "", "1,234.50", "1 to 2"],
    ]
    assert r"\textbf{64.00}" in text
    assert r"\begin{tabular}{llrr}" in text
    assert [text.count(rf"\{rule}rule") for rule in ("top", "mid", "bottom")] == [1, 2, 1]
    assert r"50 \% \& more" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


def test_latex_row_may_begin_with_a_bracket() -> None:
    """A bracket after a line break would be taken for its option."""
    table = Table("t", "t", ("a",), ((Cell("[1]"),), (Cell("x"),)))
    assert "\n{[1]} \\\\\n" in to_latex(table)


def test_markdown() -> None:
    """A table of pipes under its title; what means something to Markdown is escaped."""
    assert to_markdown(TABLE) == (
        "**scores of 100 % \\[all\\]**\n\n"
        "| target | metric | SL | SL+C |\n"
        "| --- | --- | ---: | ---: |\n"
        f"| mit_movie | F1 | 63.24 ± 0.33 | **64.00{SAME}** |\n"
        "| a\\|b\\* | F1 | failed | - |\n"
        "| average |  | 1,234.50 | 1 to 2 |\n\n"
        f"- {SAME} the same as \\<baseline>\n- 50 % & more\n"
    )


@settings(max_examples=60, deadline=None)
@given(TABLES)
def test_markdown_rows_keep_their_width(table: Table) -> None:
    """No word breaks a row: every line of the table has the header's number of cells."""
    lines = [line for line in to_markdown(table).split("\n") if line.startswith("| ")]
    assert len(lines) == len(table.rows) + 2
    for line in lines:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == len(table.header) + 1


def test_rich_shows_words_as_they_are() -> None:
    """Brackets are no markup, marks and notes are shown."""
    console = Console(width=100, record=True, file=io.StringIO())
    print_table(console, TABLE)
    shown = console.export_text()
    assert "scores of 100 % [all]" in shown
    assert f"64.00{SAME}" in shown
    assert "63.24 ± 0.33" in shown
    assert "the same as <baseline>" in shown
    lines = [line for line in shown.split("\n") if line.startswith(("│", "├"))]
    assert [line[0] for line in lines] == ["│", "│", "├", "│"]


@settings(max_examples=60, deadline=None)
@given(TABLES, st.integers(20, 100))
def test_the_terminal_breaks_no_figure(table: Table, width: int) -> None:
    """What does not fit goes into parts, in which every figure is whole."""
    console = Console(width=width, record=True, file=io.StringIO())
    print_table(console, table)
    lines = console.export_text().split("\n")
    assert all(cell_len(line) <= width for line in lines)
    widest = max(cell_len(text) for text in texts(table))
    if table.words * (widest + 3) + widest + 4 > width:
        return  # not even one column beside those of words
    for row in table.rows:
        for cell in row:
            text = cell.text + cell.mark
            if cell.number is not None and text.split() == [text]:
                assert any(text in line for line in lines)


def texts(table: Table) -> list[str]:
    """Everything in the cells of a table."""
    return [*table.header, *(cell.text + cell.mark for row in table.rows for cell in row)]


@pytest.mark.parametrize(("width", "parts"), [(100, 1), (60, 1), (42, 2), (38, 2)])
def test_wide_tables_come_in_parts(width: int, parts: int) -> None:
    """Each with the columns of words and a number in its title; the notes below the last one."""
    console = Console(width=width, record=True, file=io.StringIO())
    print_table(console, TABLE)
    shown = console.export_text()
    assert shown.count("mit_movie") == shown.count("│ target") + shown.count("┃ target") == parts
    assert shown.count("50 % & more") == 1
    assert "63.24 ± 0.33" in shown
    if parts > 1:
        assert shown.index("(1 of 2)") < shown.index("SL") < shown.index("(2 of 2)")


def test_remarks_are_left_aligned_and_may_be_broken() -> None:
    """Figures stay to the right in every part, also where the remarks are in another one."""
    header = ("task", "rows", "tokens", "found")
    remark = "scheme: IOB2, 14 labels repaired"
    table = Table("any", "any", header, (row_of("tags", "1,200", "9", remark),), remarks=1)
    for width in (40, 26):
        console = Console(width=width, record=True, file=io.StringIO())
        print_table(console, table)
        shown = console.export_text()
        assert "│ 1,200 │      9 │" in shown
        assert "│ scheme:" in shown
        assert remark not in shown


@settings(max_examples=40, deadline=None)
@given(TABLES)
def test_json_reads_back(table: Table) -> None:
    """A table comes back from JSON as it was."""
    assert from_json(to_json(table)) == table


@pytest.mark.parametrize("ending", RENDERERS)
def test_empty_tables_are_put_out(ending: str) -> None:
    """A table without rows and notes has a form in every format."""
    assert "nothing" in RENDERERS[ending](Table("t", "nothing", ("nothing",), ()))


def test_tables_need_no_torch() -> None:
    """Tables can be made of results.json where torch would take seconds to import."""
    script = (
        "import sys, mtlplug.pages.typesetting; from mtlplug.study import tables, costs, printed, "
        "statistics; print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
