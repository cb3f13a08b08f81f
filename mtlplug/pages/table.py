"""A table as a value: what the builders make, the renderers write and the report page shows."""

from __future__ import annotations

from dataclasses import dataclass

SAME = "≈"
"""Mark of a score that cannot be told from the baseline's."""

UNJUDGED = "?"
"""Mark of a score of which that cannot be said."""

INCOMPLETE = "†"
"""Mark of a figure made of fewer scores than planned."""

PARTIAL = "*"
"""Mark of a target that readers must know something of."""

EDGE = "‡"
"""Mark of a learning rate at an end of the sweep."""

WRONG = "✗"
"""Mark of a printed figure that does not follow from the figures it is said to be made of."""

NOTHING = "-"
"""Text of a cell without a figure."""


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: as people read it, without mark.
        number: what the text says, not rounded; None for words and for cells without a figure.
        deviation: that the text gives after "±", not rounded.
        low, high: ends of the interval that the text gives.
        mark: characters explained in the table's notes; empty or several.
        best: whether it is the best of its row.
    """

    text: str = NOTHING
    number: float | None = None
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    mark: str = ""
    best: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header.

    Attributes:
        name: for files: "table_1".
        title: for people.
        header: of the columns; nothing but empty texts where none needs a name.
        rows: each as wide as the header.
        notes: sentences below it; those on a mark start with the mark.
        words: so many columns from the left hold words, which every part of a wide table has.
        remarks: so many columns from the right hold words; those between hold figures.
        rules: numbers of the rows that a line is drawn above.

    Raises:
        ValueError: a row is not as wide as the header.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    words: int = 1
    remarks: int = 0
    rules: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        width = len(self.header)
        for row in self.rows:
            if len(row) != width:
                raise ValueError(f"a row of {self.name} is {len(row)} wide, not {width}")

    def of_figures(self, column: int) -> bool:
        """Whether a column holds figures."""
        return self.words <= column < len(self.header) - self.remarks


def row_of(*texts: str, best: bool = False) -> tuple[Cell, ...]:
    """A row of cells that are texts, figures too."""
    return tuple(Cell(text, best=best) for text in texts)


def figure(
    number: float | None,
    deviation: float | None = None,
    *,
    digits: int = 2,
    signed: bool = False,
    mark: str = "",
    best: bool = False,
) -> Cell:
    """A cell for a number, with its deviation where it has one.

    >>> figure(63.239, 0.333).text
    '63.24 ± 0.33'
    >>> figure(1.5, digits=1, signed=True).text, figure(None).text
    ('+1.5', '-')
    """
    if number is None:
        return Cell(mark=mark)
    text = f"{number:{'+' if signed else ''},.{digits}f}"
    if deviation is not None:
        text += f" ± {deviation:,.{digits}f}"
    return Cell(text, number, deviation, mark=mark, best=best)
