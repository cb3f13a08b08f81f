"""What takes training: rows learnt by heart, two ranks against one, a run that is gone on with."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file
from torch import Tensor

from mtlplug.data.build import TRAIN, TaskData
from mtlplug.doctor.checks import BAD
from mtlplug.doctor.gradient import gradient_checks
from mtlplug.doctor.job import without_dropout
from mtlplug.formats import IGNORE, TaskFormat
from mtlplug.model.loading import read_config
from mtlplug.model.multitask import MultiTaskModel
from mtlplug.plugin_manager import load_plugins
from mtlplug.plugin_sources import give
from mtlplug.repeating import as_toml
from mtlplug.testing.failures import ContractError, require
from mtlplug.testing.specimen import NAME, Outcome, Specimen, outcome, packed
from mtlplug.training.engine import Engine

STEPS, STEPS_BETWEEN, RATE = 400, 20, 2e-3
"""Of learning by heart: most steps, steps between two looks at the metrics, learning rate."""

SEEDS = (1, 2)
"""Of heads that are tried. Now and then training ends where all rows look alike. Whether it does
hangs on rounding, so on the number of threads: of `TestSocialIqa` of the example MC at this rate
for one seed of forty, at 5e-3 for six of ten.
"""

LITTLE = 1e-4
"""Loss of every feature under which nothing is left to learn."""


@dataclass(frozen=True)
class Learnt:
    """Before and after learning all rows by heart.

    Attributes:
        before: losses, predictions and scores of the untrained head.
        after: of the trained one.
        metrics: of the trained one.
        steps: that it took.
        model: the trained one.
    """

    before: Outcome
    after: Outcome
    metrics: Mapping[str, float]
    steps: int
    model: MultiTaskModel | None = None


def near(best: float, untrained: float) -> float:
    """From where on a headline counts as the best: a hundredth below it.

    Where an untrained head is as near, as when all rows but one in hundreds have one answer, it
    must be the best itself but for rounding.
    """
    for tolerance in (1e-2, 1e-6):
        least = best - tolerance * max(1.0, abs(best))
        if untrained < least:
            break
    return least


def several_answers(data: TaskData) -> bool:
    """Whether the rows have different answers, made of more than one value."""
    store = data.stores[TRAIN]
    targets = [store.target(number).tolist() for number in range(len(store))]
    within = {value for target in targets for value in target} - {IGNORE}
    different = len({tuple(target) for target in targets}) > 1 and len(within) > 1
    return different or not within  # of a format without targets nothing is known


def learn_by_heart(specimen: Specimen, best: float) -> Learnt:
    """Train encoder and head on all rows at once until they score best, or long enough."""
    for seed in SEEDS:
        learnt = _learn(specimen, best, seed)
        if learnt.steps < STEPS:
            break
    return learnt


def _learn(specimen: Specimen, best: float, seed: int) -> Learnt:
    """Train the head of one seed; fewer than `STEPS` where there is nothing left to learn."""
    data = specimen.data
    model = specimen.model(seed=seed)
    without_dropout(model)
    before = outcome(model, data)
    batch = packed(data)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    steps = 0
    while steps < STEPS:
        for _ in range(STEPS_BETWEEN):
            optimizer.zero_grad()
            model(batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        steps += STEPS_BETWEEN
        after = outcome(model, data)
        metrics = scored(data, after)
        if metrics[headline(data)] >= best or max(after.losses) < LITTLE:
            break
    return Learnt(before, after, metrics, steps, model)


def scored(data: TaskData, result: Outcome) -> dict[str, float]:
    """Metrics of all features, as evaluation has them."""
    store = data.stores["valid"]
    references = [store.reference(number) for number in range(len(store))]
    return data.format.metrics(data.task, result.predictions, references)


def headline(data: TaskData) -> str:
    """The metric that ranks the task."""
    return data.task.metric or data.format.headline


def check_ranks(specimen: Specimen, stages: Sequence[str]) -> None:
    """Compare two ranks under ZeRO with one padded process, on the task and a twin of it.

    Raises:
        ContractError: the parameters differ, or could not be compared.
    """
    data = specimen.data
    twin = replace(data, task=replace(data.task, name=f"{NAME}2"))
    config = read_config(str(specimen.encoder_folder))
    with found_by_others(specimen.format):
        checks = list(gradient_checks([data, twin], config, stages, ranks=2))
    for check in checks:
        require(check.status != BAD, f"{check.name}: {check.found}", check.remedy)


class _KilledError(Exception):
    """Stands for a killed process."""


def check_resume(specimen: Specimen) -> None:
    """Compare a run that was killed and started again with one that was not.

    Raises:
        ContractError: they left different weights.
    """
    from mtlplug.training.pretrain import pretrain
    from mtlplug.workspace import open_workspace

    specimen.task()  # writes the rows
    suite = specimen.folder / "suite.toml"
    table = {**specimen.table, "format": specimen.format.code}
    table |= dict.fromkeys((TRAIN, "valid"), f"{NAME}.jsonl")
    suite.write_text(
        f"[tasks.{NAME}]\n" + "".join(f"{k} = {as_toml(v)}\n" for k, v in table.items())
    )
    options = {
        "groups": NAME, "suite": str(suite), "model": str(specimen.encoder_folder),
        "cache": specimen.folder / "cache", "precision": "fp32", "batch_size": 4,
        "max_epochs": 2, "learning_rate": 1e-3, "save_minutes": 0.0, "max_length": 128,
    }  # fmt: skip
    unbroken, broken = specimen.folder / "unbroken", specimen.folder / "broken"
    updates = iter(range(1, 1 << 30))
    update = Engine.update

    def killed(engine: Engine, *args: Any, **kwargs: Any) -> Any:
        if next(updates) == 2:
            raise _KilledError
        return update(engine, *args, **kwargs)

    with found_by_others(specimen.format), contextlib.redirect_stdout(io.StringIO()):
        pretrain(open_workspace({**options, "output": unbroken}))
        with mock.patch.object(Engine, "update", killed), contextlib.suppress(_KilledError):
            pretrain(open_workspace({**options, "output": broken}))
            raise AssertionError("the run was to be killed, and was not")
        pretrain(open_workspace({**options, "output": broken}))
    ours, theirs = _result(broken), _result(unbroken)
    different = [name for name, value in theirs.items() if not torch.equal(value, ours[name])]
    require(
        not different,
        f"killed after its first step and started again, a run ends with another {different[:1]}",
        "keep all that a head remembers in parameters and buffers (register_buffer), and draw "
        "random numbers from torch's own generator: those are saved",
    )


def _result(folder: Path) -> dict[str, Tensor]:
    files = [folder / "encoder" / "model.safetensors", folder / "heads" / f"{NAME}.safetensors"]
    return {
        f"{file.stem}.{name}": value for file in files for name, value in load_file(file).items()
    }


@contextlib.contextmanager
def found_by_others(task_format: TaskFormat) -> Iterator[None]:
    """Let commands and other processes find a format that may not be installed.

    Raises:
        ContractError: they cannot.
    """
    kind = type(task_format)
    module = sys.modules[kind.__module__]
    with mock.patch.dict(os.environ):
        if task_format.code not in load_plugins().formats:
            path = getattr(module, "__file__", None) or ""
            give([path if kind.__module__ == Path(path).stem else kind.__module__])
        found = load_plugins().formats.get(task_format.code)
        if found is None or type(found).__qualname__ != kind.__qualname__:
            raise ContractError(
                f"{kind.__module__} brings no format '{task_format.code}' to mtlplug",
                "return it from a function mtlplug_task_formats marked with @mtlplug.hookimpl, "
                "and name the module in the entry points of the distribution",
            )
        yield
