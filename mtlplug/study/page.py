"""The report of a study as one HTML file that needs no network and no server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from markupsafe import Markup

from mtlplug.pages.charts import Words, bar
from mtlplug.pages.table import Table
from mtlplug.pages.webpage import render_page
from mtlplug.pages.wording import facts
from mtlplug.study import figures, view
from mtlplug.study.costs import comparisons, costs
from mtlplug.study.findings import Study, findings
from mtlplug.study.printed import beside
from mtlplug.study.results import BASELINE, Results
from mtlplug.study.tables import chosen_rates, intervals, table_1, table_2

WHEN = "when"
"""The fact that says when a study was run."""


def page(results: Results) -> str:
    """The report page of a study, finished or not.

    Same results, same page: nothing in it depends on when or where it is written.
    """
    study = Study(results)
    rows = view.heat_rows(study)
    curves = [figures.target_curves(study, int(row.place[1:]), row.target) for row in rows]
    return render_page(
        "mtlplug.study",
        "study.html",
        results=results,
        when=str(results.facts.get(WHEN, "")),
        counts=Counter(trial.state for trial in results.trials),
        made=[each for each in results.columns if each.name != BASELINE],
        progress=_progress(results),
        sentences=findings(study),
        rows=rows,
        scale=view.scale(),
        scatter=figures.cost_against_gain(study),
        price=results.price,
        encoder_curve=figures.encoder_curve(study),
        curves=[each for each in curves if each is not None],
        tables=all_tables(results),
        details=[(row, list(view.details(study, row))) for row in rows],
        failures=view.failures(results),
        facts=facts({k: v for k, v in results.facts.items() if k != WHEN}),
    )


def all_tables(results: Results) -> list[Table]:
    """All tables that such results have; the paper's where there are targets of the paper."""
    if not results.targets or not results.columns:
        return []
    builders: tuple[Callable[[Results], Table | None], ...] = (
        table_1,
        table_2,
        costs,
        comparisons,
        intervals,
        chosen_rates,
        beside,
    )
    tables = [build(results) for build in builders]
    return [table for table in tables if table is not None and table.rows]


def _progress(results: Results) -> Markup:
    """A bar of the finetuning runs by state."""
    parts = figures.shares(trial.state for trial in results.trials)
    text = ", ".join(f"{count} {state}" for state, count in parts)
    return bar(parts, Words("progress", "finetuning runs by state", text))
