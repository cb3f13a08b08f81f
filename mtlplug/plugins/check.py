"""`mtlplug plugins check`: the contract suite on rows of a task, one line for each check."""

from __future__ import annotations

import random
import unittest
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from torch.utils._pytree import tree_leaves

from mtlplug.data.build import TRAIN
from mtlplug.data.suites import DEMO, Suite, load_suite
from mtlplug.doctor.checks import BAD, STYLES, Check, as_json, bad, note, ok, summary
from mtlplug.errors import MtlplugError, unknown
from mtlplug.formats import Task, TaskFormat
from mtlplug.pages.typesetting import new_console
from mtlplug.plugin_manager import Plugins, load_plugins
from mtlplug.testing import FormatContract
from mtlplug.testing.failures import ContractError, sentence
from mtlplug.testing.feature_tests import FeatureTests
from mtlplug.testing.score_tests import ScoreTests
from mtlplug.testing.shown_tests import ShownTests
from mtlplug.testing.specimen import texts_of

ROWS = 8
"""Rows that are checked: few enough to be learnt by heart."""

CHARACTERS = 8_000
"""Of long texts fewer rows are checked, as many as come to this; two at the least."""

SAMPLED = 500
"""The first rows of a split, out of which they are drawn."""


def check_plugin(name: str, options: Mapping[str, Any]) -> bool:
    """Check a format, or all formats of a plugin; returns whether all checks pass.

    Args:
        name: code of a format, or name of a plugin.
        options: `suite`, `task`, `data`, `best` and `as_json` of the command.

    Raises:
        MtlplugError: there is no such format, or no task to take rows from.
    """
    plugins = load_plugins()
    console = new_console(quiet=options["as_json"])
    checks = []
    for task_format in _formats(name, plugins):
        task = _task(task_format, plugins, options)
        contract = contract_of(task_format, task, options["best"])
        title = f"format {task_format.code}, {len(contract.rows)} rows of task '{task.name}'"
        console.print(escape(title), highlight=False)
        with console.status("checking") as status:
            for check in run_contract(contract):
                checks.append(check)
                _show(console, check)
                status.update(f"checked {check.name}")
    console.print(summary(checks), highlight=False)
    if options["as_json"]:
        click.echo(as_json(checks))
    return all(check.status != BAD for check in checks)


def contract_of(task_format: TaskFormat, task: Task, best: float = 100.0) -> type[FormatContract]:
    """The contract suite for a format on some rows of a task."""
    rows = [dict(row) for row in islice(task.sources[TRAIN].rows(), SAMPLED)]
    chosen = _drawn(list({repr(row): row for row in rows}.values()), task_format.columns)
    table = {"labels": list(task.labels), "options": dict(task.options)}
    if task.metric:
        table["metric"] = task.metric
    values = {"format": task_format, "task": table, "rows": chosen, "best": best}
    return type("Contract", (FormatContract,), values)


def _drawn(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[Mapping[str, Any]]:
    """Rows drawn at random, up to half of them for an answer that those before do not have.

    Of a task nearly all of one answer all rows would have that one, of which nothing can be learnt.
    The gold is in the last of a format's columns.
    """
    drawn = random.Random(0).sample(rows, len(rows))
    seen: set[str] = set()
    new: list[Mapping[str, Any]] = []
    for row in drawn:
        answers = set(map(repr, tree_leaves(row.get(columns[-1]) if columns else row)))
        if len(new) < ROWS // 2 and answers - seen:
            new.append(row)
            seen |= answers
    chosen: list[Mapping[str, Any]] = []
    room = CHARACTERS
    for row in [*new, *(row for row in drawn if row not in new)][:ROWS]:
        if len(chosen) < 2 or room > 0:
            chosen.append(row)
            room -= sum(map(len, texts_of(row)))
    return chosen


def run_contract(contract: type[FormatContract]) -> Iterator[Check]:
    """Run the inherited tests one after the other, without pytest."""
    contract.setup_class()
    tests = vars(FeatureTests) | vars(ShownTests) | vars(ScoreTests)
    try:
        for test, function in tests.items():
            if test.startswith("test_"):
                yield _checked(contract(), test, str(function.__doc__))
    finally:
        contract.teardown_class()


def _checked(instance: FormatContract, test: str, promise: str) -> Check:
    name = test.removeprefix("test_").replace("_", " ")
    try:
        getattr(instance, test)()
    except unittest.SkipTest as error:
        return note(name, str(error))
    except ContractError as error:
        return bad(name, error.found, error.remedy)
    except Exception as error:  # whatever the format's code raises
        remedy = f"it must hold that: {promise}"
        return bad(name, sentence(error), remedy)
    return ok(name, promise)


def _show(console: Console, check: Check) -> None:
    """One line where all is well; where not, what was found and what to change below it."""
    style = STYLES[check.status]
    more = "" if check.status != "note" else f" (not checked: {escape(check.found)})"
    console.print(f"[{style}]{check.status:4}[/{style}]  {check.name}{more}", highlight=False)
    if check.status == BAD:
        console.print(f"      {escape(check.found)}", highlight=False)
        console.print(f"      [{style}]{escape(check.remedy)}[/{style}]", highlight=False)


def _formats(name: str, plugins: Plugins) -> list[TaskFormat]:
    """The format of this code, or those of the plugin of this name."""
    if name in plugins.formats:
        return [plugins.formats[name]]
    named = [each for each in plugins.plugins if name in (each.name, each.distribution)]
    if not named:
        raise unknown(
            "format or plugin", name, [*plugins.formats, *(p.name for p in plugins.plugins)]
        )
    codes = [code for each in named for code in each.formats]
    if not codes:
        raise MtlplugError(f"plugin '{name}' brings no format; its status is: {named[0].status}")
    return [plugins.formats[code] for code in codes]


def _task(task_format: TaskFormat, plugins: Plugins, options: Mapping[str, Any]) -> Task:
    """A task of the format that has training rows."""
    code, wanted = task_format.code, options["task"]
    suites = list(_suites(plugins, options))
    for suite in suites:
        found = {
            name: task
            for name, task in suite.tasks.items()
            if task.format == code and TRAIN in task.sources
        }
        if found and wanted is None:
            return next(iter(found.values()))
        if wanted in found:
            return found[wanted]
        if found and options["suite"]:
            raise unknown(f"task of format {code}", wanted, found)
    names = ", ".join(suite.name for suite in suites)
    what = f"task '{wanted}' of format {code}" if wanted else f"task of format {code}"
    raise MtlplugError(f"no {what} in suite {names}; give a suite that has one with --suite")


def _suites(plugins: Plugins, options: Mapping[str, Any]) -> Iterator[Suite]:
    """The suite that is named, else those of plugins and the demo."""
    others = plugins.registry.of("suite", {})
    for name in [options["suite"]] if options["suite"] else [*others, DEMO]:
        yield load_suite(name, plugins.formats, options["data"], registry=plugins.registry)
