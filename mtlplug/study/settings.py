"""What a study is made of: from the suite's `[study]` table and the options of the command.

The table, by example::

    [study]
    groups = ["SL", "SL+C"]             # combinations to pre-finetune on; default: all
    targets = ["wnut17", "boolq"]       # tasks to finetune on; default: those of role target
    rates = [1e-3, 1e-4, 1e-5]          # the sweep
    seeds = [1, 2, 3]                   # the first one is the sweep's, too
    [study.pretrain]                    # options of `mtlplug run` for pre-finetuning
    max_rows_per_task = 1000
    [study.finetune]                    # and for finetuning
    batch_size = 32
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtlplug.config import OF_THE_USER, Layer, RunConfig, merge
from mtlplug.data.build import TRAIN, VALID
from mtlplug.data.suites import ALL, Suite
from mtlplug.data.tables import Types, check_table
from mtlplug.errors import MtlplugError, unknown
from mtlplug.study.results import BASELINE
from mtlplug.workspace import Workspace

RATES = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
"""The sweep where nothing else is said: the range of Padmakumar et al. (2022), appendix B.2."""

SEEDS = (1, 2, 3, 4, 5)
"""Five random restarts (Padmakumar et al., 2022, section 3.2)."""

PRETRAIN, FINETUNE = "pretrain", "finetune"
"""What runs are for: the kinds of cells, and the tables of their options."""

KEYS: Types = {
    "groups": (list,), "targets": (list,), "rates": (list,), "seeds": (list,),
    "pretrain": (dict,), "finetune": (dict,),
}  # fmt: skip

SET_BY_THE_STUDY = (*OF_THE_USER, "seed", "model", "precision")
"""Options of a run that a study sets itself, or that are the same for all its runs."""


@dataclass(frozen=True)
class Settings:
    """What is run.

    Attributes:
        columns: "baseline" and combinations of groups.
        targets: names of tasks.
        rates: learning rates of the sweep, each once.
        seeds: each once; the first is the sweep's.
        pretrain: options of the pre-finetuning runs.
        finetune: options of the finetuning runs; the learning rate and seed are the cell's.
    """

    columns: tuple[str, ...]
    targets: tuple[str, ...]
    rates: tuple[float, ...] = RATES
    seeds: tuple[int, ...] = SEEDS
    pretrain: Mapping[str, Any] = field(default_factory=dict)
    finetune: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As JSON-like values."""
        return {key: list(v) if isinstance(v, tuple) else dict(v) for key, v in vars(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """From `as_dict()`, read back from JSON."""
        found: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**found)


def settings_of(workspace: Workspace, given: Mapping[str, Any]) -> Settings:
    """The settings from what was given, else the suite's `[study]` table, else ours.

    Args:
        workspace: plugins and suite.
        given: by name as in the table, each None or a value; `groups` and `targets` as text.

    Raises:
        MtlplugError: something is unknown, or there is nothing to finetune on.
    """
    suite = workspace.suite
    where = str(suite.path or suite.name)
    table = dict(suite.study)
    check_table(table, KEYS, f"{where}: [study]")
    groups = given.get("groups") or ",".join(table.get("groups", [])) or ALL
    targets = _names(given.get("targets")) or table.get("targets") or _of_role_target(suite)
    columns = _columns(suite, groups)
    _check_unseen(suite, columns, targets)
    return Settings(
        columns=columns,
        targets=_targets(suite, targets),
        rates=_rates(given.get("rates") or table.get("rates") or RATES),
        seeds=_seeds(given.get("seeds") or table.get("seeds") or SEEDS),
        pretrain=_options(table, given, PRETRAIN, where, workspace.given),
        finetune=_options(table, given, FINETUNE, where, workspace.given),
    )


def _columns(suite: Suite, groups: str) -> tuple[str, ...]:
    """The baseline and the combinations; the baseline may be named, to have it alone."""
    names = [name for name in suite.combinations(groups) if name != BASELINE]
    for name in names:
        suite.select(name)
    return (BASELINE, *names)


def _check_unseen(suite: Suite, columns: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse to finetune on what an encoder has been pre-finetuned on: no column would say so."""
    for column in columns:
        seen = [] if column == BASELINE else [task.name for task in suite.select(column)]
        for target in targets:
            if target in seen:
                raise MtlplugError(
                    f"target '{target}' is one of the tasks of '{column}'; leave it out of the "
                    "groups, or choose other --targets: a study finetunes on tasks that no encoder "
                    "has seen"
                )


def _of_role_target(suite: Suite) -> list[str]:
    return [task.name for task in suite.tasks.values() if task.role == "target"]


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in text.replace("+", ",").split(",")] if text else []


def _targets(suite: Suite, names: Sequence[str]) -> tuple[str, ...]:
    """Tasks with both splits, those of a format together."""
    if not names:
        raise MtlplugError(
            f"suite '{suite.name}' has no task of role target to finetune on; name tasks with "
            "--targets"
        )
    for name in names:
        if name not in suite.tasks:
            raise unknown("target", name, suite.tasks)
        missing = {TRAIN, VALID} - suite.tasks[name].sources.keys()
        if missing:
            raise MtlplugError(
                f"target '{name}' has no split '{sorted(missing)[0]}'; name its file in the suite, "
                "or leave the target out with --targets"
            )
    formats = list(dict.fromkeys(task.format for task in suite.tasks.values()))
    order = [t.name for code in formats for t in suite.tasks.values() if t.format == code]
    return tuple(name for name in order if name in names)


def _rates(values: Sequence[Any]) -> tuple[float, ...]:
    for value in values:
        if type(value) not in (int, float) or not 0 < value < 1:
            raise MtlplugError(f"learning rate {value!r} of the sweep is not between 0 and 1")
    return tuple(sorted({float(value) for value in values}, reverse=True))


def _seeds(values: Sequence[Any]) -> tuple[int, ...]:
    for value in values:
        if type(value) is not int or value < 0:
            raise MtlplugError(f"seed {value!r} of the study is no whole number of 0 or more")
    return tuple(dict.fromkeys(values))


def _options(
    table: Mapping[str, Any], given: Mapping[str, Any], kind: str, where: str, own: Set[str]
) -> dict[str, Any]:
    """Options of runs: the table's but for those of the command, then those of `KEY=VALUE`."""
    said = _checked(table.get(kind, {}), kind, f"{where}: [study.{kind}]")
    left = {key: value for key, value in said.items() if key not in own}
    return left | _checked(given.get(kind) or {}, kind, f"--{kind}")


def _checked(values: Mapping[str, Any], kind: str, where: str) -> dict[str, Any]:
    """Options of runs from one place, their names, types and ranges checked."""
    options = {key.replace("-", "_"): value for key, value in values.items()}
    known = set(RunConfig.__dataclass_fields__) - set(SET_BY_THE_STUDY)
    if kind == FINETUNE:
        known -= {"learning_rate"}
    for key in options:
        if key not in known:
            raise MtlplugError(f"{where}: {unknown('option', key, known)}")
    typed, _ = merge([Layer(where, options)])
    try:
        config = RunConfig(**typed)
    except MtlplugError as error:  # it names the option of `mtlplug run`
        raise MtlplugError(f"{where}: {error}") from None
    return {key: _plain(getattr(config, key)) for key in options}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
