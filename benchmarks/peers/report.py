"""From blocks to figures: rates, the ratio of two tools round by round, and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rich.table import Table

OURS = "mtlplug"
Blocks = Sequence[Mapping[str, Any]]


def total(blocks: Blocks, key: str) -> float:
    """The sum over the epoch."""
    return float(sum(block[key] for block in blocks))


def rate(block: Mapping[str, Any]) -> float:
    """Rows a second of one block."""
    return float(block["rows"] / block["seconds"])


def speed(blocks: Blocks, clock: str = "seconds") -> float:
    """Rows a second over the whole epoch."""
    return total(blocks, "rows") / total(blocks, clock)


def summary(blocks: Blocks) -> dict[str, float]:
    """Speed, padding and memory of one tool over the whole epoch."""
    seconds = total(blocks, "seconds")
    return {
        "rows_per_second": round(speed(blocks), 2),
        "rows_per_cpu_second": round(speed(blocks, "cpu_seconds"), 2),
        "features_per_second": round(total(blocks, "features") / seconds, 2),
        "tokens_per_second": round(total(blocks, "tokens") / seconds, 1),
        "computed_per_token": round(total(blocks, "computed") / total(blocks, "tokens"), 3),
        "tokens_per_row": round(total(blocks, "tokens") / total(blocks, "rows"), 1),
        "peak_mb": max(block["peak_mb"] for block in blocks),
    }


def ratios(ours: Blocks, theirs: Blocks) -> dict[str, Any]:
    """How many times as many rows a second we train on as a peer does.

    `epoch` compares the whole epochs, in which all train on the same rows: the figure to quote,
    since a tool's blocks may hold different mixes of short and long rows. `epoch_cpu` is the same
    by CPU seconds. `rounds` compares the blocks that ran after one another, without the first,
    in which tools warm up; `median`, `low` and `high` are of these.
    """
    rounds = [rate(a) / rate(b) for a, b in zip(ours[1:], theirs[1:], strict=False)]
    epochs = {
        name: total(ours, "rows")
        / total(ours, clock)
        * total(theirs, clock)
        / total(theirs, "rows")
        for name, clock in (("epoch", "seconds"), ("epoch_cpu", "cpu_seconds"))
    }
    spread = {"median": median(rounds), "low": min(rounds), "high": max(rounds)}
    figures = {name: round(value, 3) for name, value in {**spread, **epochs}.items()}
    return {**figures, "rounds": [round(ratio, 3) for ratio in rounds]}


def complete(tools: dict[str, dict[str, Any]]) -> None:
    """Add the figures to what was measured of one mix, in place."""
    ours = tools[OURS]
    for name, tool in tools.items():
        if tool["status"] != "ok":
            continue
        tool["summary"] = summary(tool["blocks"])
        tool["mean_loss"] = round(sum(tool["losses"].values()) / len(tool["losses"]), 4)
        if name != OURS and ours["status"] == "ok":
            tool["ratio"] = ratios(ours["blocks"], tool["blocks"])


def table(mix: str, measured: Mapping[str, Any]) -> Table:
    """One mix as a table; below it why a tool could not run."""
    result = Table(title=f"{mix}: one epoch over {measured['rows']:,} rows", title_justify="left")
    result.add_column("tool")
    columns = (
        "rows/s", "tokens/s", "computed\nper token", "peak\nMB", "validation\nloss",
        "mtlplug faster\n(epoch)", "by rounds:\nmedian (range)", "by CPU\ntime",
    )  # fmt: skip
    for column in columns:
        result.add_column(column, justify="right")
    for name, tool in measured["tools"].items():
        if tool["status"] == "ok":
            result.add_row(name, *_cells(tool))
    result.add_row("uniform guess", "", "", "", "", f"{measured['uniform_loss']:.3f}")
    failed = {name: t["status"] for name, t in measured["tools"].items() if t["status"] != "ok"}
    result.caption_justify = "left"
    result.caption = "\n".join(f"{name}: {reason}" for name, reason in failed.items()) or None
    return result


def _cells(tool: Mapping[str, Any]) -> list[str]:
    figures = tool["summary"]
    cells = [
        f"{figures['rows_per_second']:.1f}",
        f"{figures['tokens_per_second']:,.0f}",
        f"{figures['computed_per_token']:.2f}",
        f"{figures['peak_mb']:,}",
        f"{tool['mean_loss']:.3f}",
    ]
    if ratio := tool.get("ratio"):
        spread = f"x{ratio['median']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})"
        cells += [f"x{ratio['epoch']:.2f}", spread, f"x{ratio['epoch_cpu']:.2f}"]
    return cells
