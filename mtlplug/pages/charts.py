"""Charts as SVG text: lines, and points with intervals. Colours come from the page's style sheet.

A chart is one `<svg>` drawn at the size it is shown at, so that its letters stay readable; it has
a title and a description for those who do not see it, and carries no style of its own: the
classes `c0` ... `c7` are the colours of `base.html`, light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

COLOURS = 8
"""Colours of the style sheet; the first one is that of text, for the baseline."""

LETTER = 8.0
"""Pixels that a letter of 12 pixels takes at most, in the mean of a name."""

DIGIT = 7.0
"""Pixels that a digit of 12 pixels takes."""

LINE = 15.0
"""Pixels between the base lines of two labels."""


@dataclass(frozen=True)
class Line:
    """A line of a chart, with a marker at its best point where there is one.

    Attributes:
        name: shown where the pointer rests.
        points: x and y, in order.
        number: of its colour and dashes.
        best: x of the point to mark.
    """

    name: str
    points: Sequence[tuple[float, float]]
    number: int
    best: float | None = None


@dataclass(frozen=True)
class Point:
    """A point of a chart, with its interval.

    Attributes:
        name: written beside it.
        x, y: where it is.
        number: of its colour.
        low, high: the interval of y; equal to it where there is none.
    """

    name: str
    x: float
    y: float
    number: int
    low: float
    high: float


@dataclass(frozen=True)
class Words:
    """What is written on a chart.

    Attributes:
        key: of its parts on the page; no other chart has it.
        title: a few words.
        description: what it shows, for those who do not see it.
        x, y: names of the axes; empty ones are left out.
    """

    key: str
    title: str
    description: str
    x: str = ""
    y: str = ""


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, both within.

    >>> ticks(0.0, 9.0), ticks(0.62, 0.71, 4)
    ([0.0, 2.0, 4.0, 6.0, 8.0], [0.65, 0.7])
    """
    step = _step((high - low) / max(most, 1))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) + 0.0 for number in range(first, last + 1)]


def _step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is no smaller than `least`."""
    if least <= 0 or not math.isfinite(least):
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * each for each in (1, 2, 5, 10) if power * each >= least * (1 - 1e-9))


@dataclass(frozen=True)
class Frame:
    """Where the axes are: values to pixels.

    Attributes:
        width, height: of the picture.
        box: left, top, right and bottom of the axes, in pixels.
        x, y: lowest and highest value of each axis.
    """

    width: int
    height: int
    box: tuple[float, float, float, float]
    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, value: float) -> float:
        """Pixels from the left."""
        left, _, right, _ = self.box
        return left + (right - left) * (value - self.x[0]) / (self.x[1] - self.x[0])

    def down(self, value: float) -> float:
        """Pixels from the top."""
        _, top, _, bottom = self.box
        return bottom - (bottom - top) * (value - self.y[0]) / (self.y[1] - self.y[0])


def lines(series: Sequence[Line], words: Words, width: int = 300, height: int = 170) -> Markup:
    """A chart of lines over whole numbers, such as epochs."""
    places = [point for line in series for point in line.points]
    top, bottom = 10.0, height - (36.0 if words.x else 20.0)
    values = _range([y for _, y in places], 0.06)
    longest = max(len(_number(value)) for value in _heights(values, top, bottom))
    left = max(42.0, longest * DIGIT + 24)
    across = _range([x for x, _ in places], 0.0)
    frame = Frame(width, height, (left, top, width - 8.0, bottom), across, values)
    parts = [*_axes(frame, words, whole=True)]
    for line in series:
        path = " ".join(f"{frame.across(x):.1f},{frame.down(y):.1f}" for x, y in line.points)
        style = f"c{line.number % COLOURS} dash{line.number % 3}"
        parts.append(f'<g class="{style}"><title>{escape(line.name)}</title>')
        parts.append(f'<polyline class="line" points="{path}"/>')
        # A run of one epoch is a point, not a line.
        marked = line.points if len(line.points) == 1 else _at(line)
        parts += [_dot(frame.across(x), frame.down(y), 3.0) for x, y in marked]
        parts.append("</g>")
    return _picture(frame, words, parts)


def scatter(points: Sequence[Point], words: Words, width: int = 720, height: int = 380) -> Markup:
    """A chart of named points with their intervals; zero is part of both axes."""
    room = max((len(point.name) for point in points), default=0) * LETTER + 14
    frame = Frame(
        width,
        height,
        (48.0, 12.0, width - room, height - 44.0),
        _range([0.0, *(point.x for point in points)], 0.02),
        _range([0.0, *(value for point in points for value in (point.low, point.high))], 0.06),
    )
    parts = [*_axes(frame, words)]
    zero = f"{frame.down(0.0):.1f}"
    parts.append(f'<path class="zero" d="M{frame.box[0]:.1f} {zero}H{frame.box[2]:.1f}"/>')
    heights = spread([frame.down(point.y) for point in points], LINE, frame.box[3])
    for point, label in zip(points, heights, strict=True):
        x, y = frame.across(point.x), frame.down(point.y)
        low, high = frame.down(point.low), frame.down(point.high)
        style = f"c{point.number % COLOURS}"
        parts.append(f'<g class="{style}"><title>{escape(point.name)}</title>')
        parts.append(f'<path class="whisker" d="M{x:.1f} {low:.1f}V{high:.1f}"/>')
        parts.append(_dot(x, y, 5.0) + "</g>")
        parts.append(f'<path class="lead" d="M{x + 6:.1f} {y:.1f}L{x + 11:.1f} {label:.1f}"/>')
        parts.append(_text(x + 13, label + 4, point.name))
    return _picture(frame, words, parts)


def swatch(number: int) -> Markup:
    """A short line in the colour and dashes of a series, for a legend."""
    style = f"c{number % COLOURS} dash{number % 3}"
    return Markup(
        f'<svg class="swatch" width="28" height="10" aria-hidden="true"><g class="{style}">'
        '<path class="line" d="M1 5H27"/></g></svg>'
    )


def bar(shares: Sequence[tuple[str, int]], words: Words, width: int = 300) -> Markup:
    """A bar of parts: a class of the style sheet and a count for each."""
    total = sum(count for _, count in shares) or 1
    parts, place = ['<rect class="rest" width="100%" height="10" rx="2"/>'], 0.0
    for style, count in shares:
        size = width * count / total
        parts.append(f'<rect class="{style}" x="{place:.1f}" width="{size:.1f}" height="10"/>')
        place += size
    frame = Frame(width, 10, (0.0, 0.0, width, 10.0), (0.0, 1.0), (0.0, 1.0))
    return _picture(frame, words, parts)


def spread(heights: Sequence[float], gap: float, bottom: float) -> list[float]:
    """Moves heights apart so that labels do not overlap, keeping their order.

    >>> spread([10.0, 12.0, 90.0], 15.0, 100.0)
    [10.0, 25.0, 90.0]
    >>> spread([95.0, 96.0], 15.0, 100.0)
    [85.0, 100.0]
    """
    order = sorted(range(len(heights)), key=lambda number: heights[number])
    found = list(heights)
    for above, below in pairwise(order):
        found[below] = max(found[below], found[above] + gap)
    limit = bottom
    for number in reversed(order):
        found[number] = min(found[number], limit)
        limit = found[number] - gap
    return found


def _range(values: Sequence[float], margin: float) -> tuple[float, float]:
    """Lowest and highest value, apart, with some air."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    air = margin * (high - low)
    return low - air, high + air


def _at(line: Line) -> list[tuple[float, float]]:
    """The marked point of a line."""
    return [point for point in line.points if point[0] == line.best]


def _axes(frame: Frame, words: Words, whole: bool = False) -> Iterator[str]:
    """Grid, ticks and names of the axes."""
    left, top, right, bottom = frame.box
    across = ticks(*frame.x, most=max(2, int((right - left) / 40)))
    for value in (each for each in across if not whole or each == int(each)):
        x = frame.across(value)
        yield f'<path class="grid" d="M{x:.1f} {top:.1f}V{bottom:.1f}"/>'
        yield _text(x, bottom + 15, _number(value), "middle")
    for value in _heights(frame.y, top, bottom):
        y = frame.down(value)
        yield f'<path class="grid" d="M{left:.1f} {y:.1f}H{right:.1f}"/>'
        yield _text(left - 6, y + 4, _number(value), "end")
    if words.x:
        yield _text((left + right) / 2, frame.height - 4, words.x, "middle")
    if words.y:
        turned = f'transform="rotate(-90 11 {(top + bottom) / 2:.1f})"'
        yield _text(11, (top + bottom) / 2, words.y, "middle", turned)


def _heights(values: tuple[float, float], top: float, bottom: float) -> list[float]:
    """Where the ticks of the vertical axis are."""
    return ticks(*values, most=max(2, int((bottom - top) / 28)))


def _number(value: float) -> str:
    """A tick's label, with a real minus sign."""
    return f"{value:,.10g}".replace("-", "\N{MINUS SIGN}")


def _text(x: float, y: float, text: str, anchor: str = "start", more: str = "") -> str:
    """A label."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(text)}</text>'


def _dot(x: float, y: float, radius: float) -> str:
    """A filled circle."""
    return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'


def _picture(frame: Frame, words: Words, parts: Sequence[str]) -> Markup:
    """The whole SVG with its title and description."""
    key = escape(words.key)
    return Markup(
        f'<svg role="img" aria-labelledby="{key}-t {key}-d" width="{frame.width}" '
        f'height="{frame.height}" viewBox="0 0 {frame.width} {frame.height}">'
        f'<title id="{key}-t">{escape(words.title)}</title>'
        f'<desc id="{key}-d">{escape(words.description)}</desc>{"".join(parts)}</svg>'
    )
