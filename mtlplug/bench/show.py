"""Tables and the picture of `mtlplug bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtlplug.bench.cost import Cost
from mtlplug.bench.estimate import Estimate
from mtlplug.bench.lengths import PADDED
from mtlplug.bench.simulate import Link
from mtlplug.errors import MtlplugError
from mtlplug.pages.table import Table, row_of
from mtlplug.pages.wording import duration

PACKED = "packed: mtlplug"

COLOURS = ("#0072b2", "#e69f00", "#cc79a7", "#999999")
"""Of the ways, packed first; told apart by colour-blind readers too."""


def cost_table(costs: Sequence[Cost], paper: Mapping[str, Any]) -> Table:
    """What an epoch costs, one line for each combination."""
    header = ["groups", "tasks", "features", "tokens", "epoch", "tokens/s"]
    header += ["padding\navoided", "of GEMM\nspeed", "update\nshare", "peak\nmemory"]
    if any(cost.price is not None for cost in costs):
        header.append("price")
    if ratios := paper_ratios(costs, paper):
        header += [f"x {paper['reference']}\nhere", f"x {paper['reference']}\nin paper"]
    rows = []
    for cost in costs:
        row = [
            cost.groups,
            f"{cost.tasks}",
            f"{cost.features:,}",
            f"{cost.tokens:,}",
            epoch_time(cost.epoch_seconds),
            f"{cost.tokens_per_second:,.0f}",
            f"{cost.padding_avoided:.0%}",
            f"{cost.utilisation:.0%}",
            f"{cost.update_share:.0%}",
            f"{cost.peak_memory / 2**30:.1f} GiB",
        ]
        row += [f"{cost.price:,.2f}"] if cost.price is not None else []
        if ratios:
            row += [f"{number:.2f}" if number else "-" for number in ratios[cost.groups]]
        rows.append(row_of(*row))
    return Table("costs", "an epoch of pre-finetuning", tuple(header), tuple(rows))


def paper_ratios(
    costs: Sequence[Cost], paper: Mapping[str, Any]
) -> dict[str, tuple[float, float | None]]:
    """Each combination's time over the reference's, here and in the paper's appendix B.3.

    Empty where no task is of the paper, or the paper's reference was not measured.
    """
    if not paper:
        return {}
    seconds = {cost.groups: cost.epoch_seconds.value for cost in costs}
    reference, printed = paper["reference"], paper["epoch_seconds"]
    if reference not in seconds:
        return {}
    theirs = {_terms(groups): value / printed[reference] for groups, value in printed.items()}
    return {
        groups: (value / seconds[reference], theirs.get(_terms(groups)))
        for groups, value in seconds.items()
    }


def _terms(groups: str) -> frozenset[str]:
    """The groups of a combination, whatever their order."""
    return frozenset(groups.split("+"))


def padded_table(costs: Sequence[Cost]) -> Table:
    """The same features laid out in other ways: how many times as long an epoch takes."""
    header = ("groups", *(title.replace(", ", ",\n") for title in PADDED.values()))
    rows = tuple(
        row_of(cost.groups, *(times(cost.ratios[way]) for way in PADDED)) for cost in costs
    )
    return Table("padded", "the same work, padded: times as long as packed", header, rows)


def prediction_table(costs: Sequence[Cost], link: Link) -> Table:
    """Predicted epochs, one line for each combination and number of ranks."""
    title = (
        f"predicted from the steps timed here, {link.bandwidth / 1e9:g} GB/s and "
        f"{link.latency * 1e6:g} µs between ranks"
    )
    header = ("groups", "ranks", "epoch", "speed-up", "passes", "update", "traffic")
    rows = tuple(
        row_of(
            cost.groups,
            f"{each.ranks}",
            duration(each.epoch_seconds),
            f"{each.speedup:.1f}",
            f"{each.compute:.0%}",
            f"{each.update:.0%}",
            f"{each.communication:.0%}",
            f"{each.balance:.3f}",
            f"{each.idle:.0f}",
        )
        for cost in costs
        for each in cost.predictions
    )
    found = (*header, "slowest rank\nover mean", "idle\nranks")
    return Table("predictions", title, found, rows)


def times(ratio: Estimate) -> str:
    """A ratio with its margin.

    >>> times(Estimate(4.32, 0.2))
    '4.3 ± 0.2'
    """
    return f"{ratio.value:.1f} ± {ratio.margin:.1f}"


def epoch_time(estimate: Estimate) -> str:
    """A time with its margin.

    >>> epoch_time(Estimate(5400.0, 540.0))
    '1 h 30 ± 10%'
    """
    return f"{duration(estimate.value)} ± {estimate.margin / estimate.value:.0%}"


def draw(costs: Sequence[Cost], title: str, path: Path) -> None:
    """Draw the epochs of all combinations, packed and padded, as bars with their intervals.

    Raises:
        MtlplugError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MtlplugError(
            "--picture needs matplotlib, which is not installed; pip install 'mtlplug[pictures]'"
        ) from None
    ways = {PACKED: [cost.epoch_seconds for cost in costs]}
    for way, name in PADDED.items():
        if all(way in cost.padded for cost in costs):
            ways[name] = [cost.padded[way] for cost in costs]
    figure = Figure(figsize=(9, 1.2 + 0.24 * (len(ways) + 1) * len(costs)), layout="constrained")
    axes = figure.add_subplot()
    longest = max(estimate.value for estimates in ways.values() for estimate in estimates)
    units = {3600: "hours", 60: "minutes", 1: "seconds"}
    unit = next(size for size in units if longest > 2 * size or size == 1)
    height = 1 / (len(ways) + 1)
    for number, (way, estimates) in enumerate(ways.items()):
        places = [place + number * height for place in range(len(costs))]
        values = [estimate.value / unit for estimate in estimates]
        margins = [estimate.margin / unit for estimate in estimates]
        axes.barh(
            places, values, height, xerr=margins, label=way, color=COLOURS[number],
            error_kw={"linewidth": 1, "ecolor": "#333333"},
        )  # fmt: skip
        for place, value, margin in zip(places, values, margins, strict=True):
            axes.text(value + margin, place, f" {value:.3g}", va="center", fontsize=8)
    axes.set_yticks(
        [place + height * (len(ways) - 1) / 2 for place in range(len(costs))],
        [cost.groups for cost in costs],
    )
    axes.invert_yaxis()
    axes.margins(x=0.1, y=0.02)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{units[unit]} for an epoch (95 % interval)")
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)
