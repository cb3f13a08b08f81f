"""`mtlplug plugins`: which there are, whether they keep the contract, and a new one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from mtlplug.options import CONTEXT, PATH, shown_errors


@click.group(context_settings=CONTEXT, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print them as one JSON list.")
@click.pass_context
@shown_errors
def plugins(context: click.Context, as_json: bool) -> None:
    """List the plugins: the task formats they bring, their hooks, what is wrong with them."""
    if context.invoked_subcommand is None:
        from mtlplug.listing import list_plugins

        list_plugins(as_json=as_json)


@plugins.command("check", context_settings=CONTEXT)
@click.argument("name")
@click.option("--suite", metavar="NAME_OR_TOML", help="Where rows come from. [a plugin's, demo]")
@click.option("--task", help="Of the suite. [the first one of the format]")
@click.option("--data", type=PATH, help="Folder the suite's relative paths start from.")
@click.option("--best", default=100.0, show_default=True, help="Headline when all is right.")
@click.option("--json", "as_json", is_flag=True, help="Print all checks as one JSON object.")
@shown_errors
def check(name: str, **options: Any) -> None:
    """Check that a format, or the formats of a plugin, keep the contract.

    The same checks as the class that plugins' tests inherit, mtlplug.testing.FormatContract, on
    some rows of a task. Exit code 0: all pass; 1: some do not; 2: an option is wrong.
    """
    from mtlplug.plugins.check import check_plugin

    if not check_plugin(name, options):
        sys.exit(1)


@plugins.command("new", context_settings=CONTEXT)
@click.argument("name")
@click.option("--output", type=PATH, help="Folder. [mtlplug-NAME]")
@shown_errors
def new(name: str, output: Path | None) -> None:
    """Write a distribution with a task format to start from: it installs, passes and trains."""
    from mtlplug.plugins.new import new_plugin

    new_plugin(name, output)
