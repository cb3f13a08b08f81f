"""Prints the scores of several runs as one Markdown table: tasks down, runs across.

Usage: python benchmarks/runs_table.py RUN_DIR ... [--json FILE]
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--json", "summary", type=click.Path(path_type=Path), help="Write the figures too.")
def main(runs: tuple[Path, ...], summary: Path | None) -> None:
    """Print the table of RUNS, folders of complete runs."""
    found = sorted((read(run) for run in runs), key=lambda run: len(run["tasks"]))
    names = list(dict.fromkeys(name for run in found for name in run["tasks"]))
    print(row("task", "metric", "untrained head", *(run["groups"] for run in found)))
    print(row(*["---"] * 2, *["---:"] * (1 + len(found))))
    for name in names:
        results = [run["tasks"].get(name) for run in found]
        first = next(result for result in results if result)
        untrained = [result["untrained"] for result in results if result]
        scores = [f"{result['score']:.1f}" if result else "" for result in results]
        print(row(name, first["metric"], span(untrained), *scores))
    print(
        row("seconds of training", "", "", *(f"{run['seconds']['training']:.0f}" for run in found))
    )
    print(row("tokens trained on", "", "", *(f"{run['tokens']:,}" for run in found)))
    if summary:
        summary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, Any]:
    """A run's report with what is needed to repeat it; the encoder by its last two names."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    options = {**run["options"], "model": "/".join(Path(run["options"]["model"]).parts[-2:])}
    for place in ("data", "output", "cache", "suite"):
        options[place] = Path(options[place] or "").name
    report |= {"model": options["model"], "options": options, "versions": run["versions"]}
    return dict(report)


def span(values: list[float]) -> str:
    """One value, or the least and the largest where they differ."""
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"


def row(*cells: str) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
