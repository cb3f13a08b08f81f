"""What the processes of a gradient check are told, as one JSON file, and the steps they share.

The reference and every rank take the same batches from here, so that they can only differ in how
a batch is computed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from mtlplug.batching.mixing import Members, Pool
from mtlplug.data.build import TRAIN, TaskData
from mtlplug.data.store import FeatureStore
from mtlplug.formats import Task
from mtlplug.model.encoder import Encoder
from mtlplug.model.multitask import MultiTaskModel
from mtlplug.model.weighting import make_weighting
from mtlplug.plugin_manager import load_plugins
from mtlplug.training.pretrain import new_model

JOB = "job.json"


@dataclass(frozen=True)
class Recipe:
    """The steps that are compared.

    Plain descent with momentum: Adam would blow up rounding where a gradient is zero in exact
    arithmetic.

    Attributes:
        steps: optimizer steps.
        batch_size: features of a step, over all ranks.
        max_tokens: token budget of a micro-batch: some ranks need several.
        features: how many features of each task are used, the first ones.
        rate: learning rate.
        momentum: of SGD.
        clipping: largest norm of the gradient.
        seed: of the mix and of new heads.
        weighting: of the losses, as `--weighting` has it.
    """

    steps: int = 6
    batch_size: int = 12
    max_tokens: int = 60
    features: int = 40
    rate: float = 0.3
    momentum: float = 0.9
    clipping: float = 1.0
    seed: int = 3
    weighting: str = "none"

    @classmethod
    def of(cls, data: Sequence[TaskData], ranks: int, weighting: str = "none") -> Recipe:
        """Steps in which every task occurs and the first of the ranks has several micro-batches."""
        lengths = [each.stores[TRAIN].lengths_N[: cls.features] for each in data]
        batch_size = max(cls.batch_size, 2 * len(data), 3 * ranks)
        tokens = float(np.concatenate(lengths).mean()) * batch_size
        budget = int(tokens / (ranks + 2)) + 1
        return cls(batch_size=batch_size, max_tokens=budget, weighting=weighting)


@dataclass(frozen=True)
class Case:
    """One encoder trained under one DeepSpeed configuration.

    Attributes:
        name: of the case, a file name.
        encoder: folder of its encoder.
        deepspeed: what the case sets of DeepSpeed's configuration.
        fault: a mistake made on purpose (`mtlplug.doctor.worker.FAULTS`), to see it noticed.
    """

    name: str
    encoder: str
    deepspeed: Mapping[str, Any]
    fault: str | None = None


@dataclass(frozen=True)
class Job:
    """Tasks, steps and cases, in a folder that also takes the results.

    Attributes:
        folder: of the job's file and its results.
        data: the tasks, whose training split is stored.
        recipe: the steps.
        cases: trained one after the other.
    """

    folder: Path
    data: Sequence[TaskData]
    recipe: Recipe
    cases: Sequence[Case]

    def batches(self) -> Iterator[Members]:
        """The features of each step."""
        sizes = [min(len(store), self.recipe.features) for store in self.stores]
        pool = Pool(sizes, self.recipe.batch_size, self.recipe.seed)
        return islice(chain.from_iterable(map(pool.epoch, count())), self.recipe.steps)

    def model(self, encoder: Encoder) -> MultiTaskModel:
        """What is trained, the same in every process, without dropout."""
        make = make_weighting(self.recipe.weighting, load_plugins().registry)
        model = new_model(encoder, self.data, self.recipe.seed, make)
        without_dropout(model)
        return model

    @property
    def stores(self) -> list[FeatureStore]:
        """The training splits."""
        return [each.stores[TRAIN] for each in self.data]

    @property
    def packing(self) -> dict[str, Any]:
        """What a packer is made of, but for its budget."""
        return {
            "stores": self.stores,
            "formats": [each.format for each in self.data],
            "weights": [each.task.weight for each in self.data],
        }

    def write(self) -> Path:
        """Write the job for its processes; returns the file."""
        text = json.dumps(
            {
                "tasks": [_task(each) for each in self.data],
                "recipe": asdict(self.recipe),
                "cases": [asdict(case) for case in self.cases],
            }
        )
        path = self.folder / JOB
        path.write_text(text, encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: Path) -> Job:
        """The job in a file."""
        values = json.loads(path.read_text(encoding="utf-8"))
        formats = load_plugins().formats
        data = []
        for each in values["tasks"]:
            store = FeatureStore(Path(each.pop("store")))
            task = Task(**each | {"labels": tuple(each["labels"])})
            data.append(TaskData(task, formats[task.format], {TRAIN: store}))
        cases = [Case(**case) for case in values["cases"]]
        return cls(path.parent, data, Recipe(**values["recipe"]), cases)


def _task(data: TaskData) -> dict[str, Any]:
    """A task and the place of its features; its sources are not needed any more."""
    names = [field.name for field in fields(Task) if field.name != "sources"]
    values = {name: getattr(data.task, name) for name in names}
    return values | {"store": str(data.stores[TRAIN].folder.absolute())}


def without_dropout(model: nn.Module) -> None:
    """Switch dropout off for good, so that runs can be compared."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
