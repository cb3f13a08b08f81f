"""A run as one HTML file that needs no network and no server."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from mtlplug.pages.charts import Line, Words, bar, lines
from mtlplug.pages.webpage import render_page
from mtlplug.pages.wording import facts
from mtlplug.repeating import command_of
from mtlplug.results.records import Record
from mtlplug.results.tables import HEADLINE, LOSS, all_tables, state_of, steps_planned

LOGGED = {
    "loss": ("training loss", 1.0),
    "learning_rate": ("learning rate × 10⁶", 1e6),
    "gradient_norm": ("gradient norm", 1.0),
    "tokens_per_second": ("tokens per second", 1.0),
}
"""Values of the log that have a chart: what they are called, and a factor."""

COLOUR = 3
"""Of the lines: without dashes."""

MOST_POINTS = 400
"""Points of a line; of more, means of neighbours."""


def page(record: Record) -> str:
    """The page of a run, finished or not.

    Same files, same page: nothing in it depends on when or where it is written.
    """
    run = record.run
    return render_page(
        "mtlplug.results",
        "run.html",
        name=record.folder.name or str(record.folder),
        state=state_of(record),
        complete=record.complete,
        options=run["options"],
        mix=record.mix,
        progress=_progress(record),
        curve=_mean_loss(record),
        tasks=[(name, _task_charts(record, name, key)) for key, name in enumerate(record.tasks)],
        logged=[chart for key in LOGGED if (chart := _logged(record, key)) is not None],
        tables=all_tables(record),
        described=[(name, facts(_described(task))) for name, task in record.tasks.items()],
        command=shlex.join(
            command_of(run["options"], run.get("given_plugins", []), run["world_size"])
        ),
        facts=facts(_facts(run)),
    )


def _progress(record: Record) -> Markup:
    """A bar of the steps done, of those planned at most."""
    done, planned = (record.steps[-1].number if record.steps else 0), steps_planned(record)
    words = Words("progress", "optimizer steps", f"{done:,} of at most {planned:,} steps")
    return bar([("done", done), ("rest", max(0, planned - done))], words)


def _mean_loss(record: Record) -> Markup | None:
    """Mean validation loss by epoch."""
    points = [(float(e.number), e.mean_loss) for e in record.epochs if e.mean_loss is not None]
    best = None if record.best is None else float(record.best.number)
    return _chart("mean-loss", "mean validation loss", points, "epoch", best)


def _task_charts(record: Record, name: str, key: int) -> list[Markup]:
    """Score and loss of a task by epoch; epoch 0 is before training."""
    best = None if record.best is None else float(record.best.number)
    found = []
    for value, title in ((HEADLINE, record.tasks[name]["metric"]), (LOSS, "validation loss")):
        points = [(float(e.number), e.scores.get(name, {}).get(value)) for e in record.epochs]
        chart = _chart(f"t{key}-{value}", f"{name}: {title}", points, "epoch", best, title)
        found += [chart] if chart is not None else []
    return found


def _logged(record: Record, key: str) -> Markup | None:
    title, factor = LOGGED[key]
    values = ((float(step.number), step.values.get(key)) for step in record.steps)
    points = [(place, value * factor) for place, value in values if value is not None]
    return _chart(f"log-{key}", title, points, "step")


def _chart(
    key: str,
    title: str,
    points: Sequence[tuple[float, float | None]],
    x: str,
    best: float | None = None,
    y: str = "",
) -> Markup | None:
    """One line; None where there is nothing to draw."""
    known = _thinned([(place, float(value)) for place, value in points if value is not None])
    if not known:
        return None
    last = f"{title} ends at {known[-1][1]:.4g} after {x} {known[-1][0]:g}"
    words = Words(key, f"{title} by {x}", last, x, y or title)
    return lines([Line(title, known, COLOUR, best)], words)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MOST_POINTS` points: the last place and the mean of neighbours."""
    size = -(-len(points) // MOST_POINTS)
    parts = [points[first : first + size] for first in range(0, len(points), size or 1)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def _described(task: Mapping[str, Any]) -> dict[str, Any]:
    """A task as `run.json` has it, what is empty left out."""
    return {key: value for key, value in task.items() if value not in ({}, [], None)}


def _facts(run: Mapping[str, Any]) -> dict[str, Any]:
    """Machine, versions, plugins and DeepSpeed's configuration."""
    plugins = [
        f"{each['name']} ({each['distribution']} {each['version']})" for each in run["plugins"]
    ]
    return {
        "device": run["device"],
        "ranks": run["world_size"],
        "mtlplug": run["mtlplug"],
        "versions": run["versions"],
        "plugins": plugins,
        "deepspeed": run["deepspeed"],
    }
