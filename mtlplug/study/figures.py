"""The charts of a study: cost against gain, and learning curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mtlplug.pages.charts import Line, Point, Words, lines, scatter
from mtlplug.pages.wording import duration, signed
from mtlplug.study.findings import Study
from mtlplug.study.results import DONE, FAILED, MISSING, Target, Trial

LOSS, SCORE = "loss", "score"

UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


@dataclass(frozen=True)
class Scatter:
    """Cost against gain, drawn for wide and for narrow screens.

    Attributes:
        wide, narrow: the same chart twice.
        left_out: columns that are not in it.
    """

    wide: Markup
    narrow: Markup
    left_out: list[str]


def cost_against_gain(study: Study) -> Scatter | None:
    """What each encoder cost to make, and what it gained on average; None with nothing to show."""
    points, said = [], []
    factor, unit = _unit(study)
    for number, column in enumerate(study.results.columns):
        gain = study.gains.get(column.name)
        if gain is None or column.seconds is None:
            continue
        span = gain.interval
        low, high = (span.low, span.high) if span else (gain.difference, gain.difference)
        cost = column.seconds * factor
        points.append(Point(column.name, cost, gain.difference, number, low, high))
        said.append(
            f"{column.name}: {duration(column.seconds)}, {signed(gain.difference)} points "
            f"({signed(low)} to {signed(high)})"
        )
    if not points:
        return None
    title, text = "Cost of pre-finetuning against average gain", "; ".join(said)
    wide = Words("cost-wide", title, text, unit, "points above the baseline")
    narrow = Words("cost-narrow", title, text, unit, "points above the baseline")
    drawn = {point.name for point in points}
    left_out = [each.name for each in study.results.columns[1:] if each.name not in drawn]
    return Scatter(scatter(points, wide), scatter(points, narrow, 300, 300), left_out)


def _unit(study: Study) -> tuple[float, str]:
    """What a second of training counts on the axis, and the axis' name."""
    price = study.results.price
    if price is not None:
        return price / 3600, f"cost of pre-finetuning, at {price:g} an hour"
    longest = max((column.seconds or 0.0 for column in study.results.columns), default=0.0)
    size, name = next((each for each in UNITS if longest >= 2 * each[0]), UNITS[-1])
    return 1 / size, f"{name} of pre-finetuning"


@dataclass(frozen=True)
class Curves:
    """The learning curves of a target.

    Attributes:
        name: of the target.
        charts: of the score and of the loss, those there are.
    """

    name: str
    charts: list[Markup]


def encoder_curve(study: Study) -> Markup | None:
    """Validation loss of every pre-finetuning run by epoch."""
    series = [
        (column.name, number, column.curve) for number, column in enumerate(study.results.columns)
    ]
    return _chart("encoders", "pre-finetuning", "mean validation loss", LOSS, series)


def target_curves(study: Study, number: int, target: Target) -> Curves | None:
    """Score and loss of a target's runs by epoch, one line for each encoder.

    A line is the run of the sweep at the chosen rate: runs of other seeds end at other epochs, so
    that no mean over them is a run that took place.
    """
    results, series = study.results, []
    for place, column in enumerate(results.columns):
        trial = _shown(results.of(target.name, column.name), results.seeds[0], study, target, place)
        if trial is not None:
            series.append((column.name, place, trial.curve))
    wanted = ((SCORE, target.metric), (LOSS, "validation loss"))
    charts = [_chart(f"t{number}", target.name, name, key, series) for key, name in wanted]
    found = [chart for chart in charts if chart is not None]
    return Curves(target.name, found) if found else None


def _shown(
    trials: Sequence[Trial], seed: int, study: Study, target: Target, place: int
) -> Trial | None:
    """The run of the first seed at the chosen rate."""
    rate = study.results.chosen_rate(target.name, study.results.columns[place].name)
    chosen = [each for each in trials if (each.rate, each.seed, each.state) == (rate, seed, DONE)]
    return chosen[0] if chosen else None


def _chart(
    key: str,
    title: str,
    name: str,
    value: str,
    series: Iterable[tuple[str, int, Sequence[Mapping[str, float]]]],
) -> Markup | None:
    """One value by epoch; None where no curve has it."""
    drawn, said = [], []
    for label, number, curve in series:
        points = [(row["epoch"], row[value]) for row in curve if value in row and "epoch" in row]
        if not points:
            continue
        losses = [(row[LOSS], row["epoch"]) for row in curve if LOSS in row and "epoch" in row]
        best = min(losses)[1] if losses else None
        drawn.append(Line(label, points, number, best))
        said.append(f"{label} ends at {points[-1][1]:.3g} after epoch {points[-1][0]:g}")
    if not drawn:
        return None
    words = Words(f"{key}-{value}", f"{title}: {name} by epoch", "; ".join(said), "epoch", name)
    return lines(drawn, words)


def shares(states: Iterable[str]) -> list[tuple[str, int]]:
    """How many of each state, for a bar."""
    found = list(states)
    return [(state, found.count(state)) for state in (DONE, FAILED, MISSING)]
