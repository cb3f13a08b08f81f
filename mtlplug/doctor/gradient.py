"""The distributed gradient of the installed formats: ranks under ZeRO against one plain process.

The parameters after some steps of descent are compared with those of one process without
DeepSpeed that pads, in float32. They are equal to rounding only if every step took the gradient
of the mean over its whole batch, whatever the ranks, the micro-batches and the heads absent on
one of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mtlplug.batching.packing import Packer
from mtlplug.data.build import TaskData
from mtlplug.doctor.checks import Check, bad, note, ok
from mtlplug.doctor.job import Case, Job, Recipe
from mtlplug.doctor.ranks import Trained, device_of, train_on_ranks
from mtlplug.doctor.small import save_small
from mtlplug.model.encoder import Encoder
from mtlplug.model.multitask import MultiTaskModel

if TYPE_CHECKING:
    from transformers import PretrainedConfig

STAGES = ("0", "1", "2", "3")

TOLERANCES = {"cpu": 1e-6, "cuda": 1e-5}
"""Largest difference of a parameter (they are near 1 or below) that is put down to rounding; GPUs
add up in another order than the reference, which runs on the processor."""

MOVED = 1e-4
"""Least change of some parameter: what has not moved cannot have moved wrongly."""

REMEDY = "name single tasks with --groups, to see whose head it is"

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Reference:
    """The steps in one process: fp32, padded, plain torch.

    Attributes:
        weights: all parameters in the end.
        moved: the largest change of a parameter.
        unmoved: parameters that never got a gradient.
        random: numbers of tasks whose losses differ when computed twice.
    """

    weights: Weights
    moved: float
    unmoved: tuple[str, ...]
    random: tuple[int, ...]


def reference(job: Job, encoder: str) -> Reference:
    """Take the steps of a job in this process, each on the whole batch at once."""
    recipe = job.recipe
    model = job.model(Encoder.from_pretrained(encoder, road="padded"))
    packer = Packer(**job.packing, max_tokens=1 << 30)
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.rate, momentum=recipe.momentum)
    before = _weights(model)
    random: set[int] = set()
    without = set(before)
    for members in job.batches():
        batch = packer.pack(members, len(members))
        output, again = model(batch), model(batch)
        random |= {n for n, each in output.losses.items() if not torch.equal(each, again.losses[n])}
        optimizer.zero_grad()
        output.loss.backward()
        without -= {name for name, each in model.named_parameters() if each.grad is not None}
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clipping)
        optimizer.step()
    weights = _weights(model)
    moved = difference(weights, before)[0]
    return Reference(weights, moved, tuple(sorted(without)), tuple(sorted(random)))


def tolerance_of(ranks: int) -> float:
    """The largest difference that so many ranks may have from the reference."""
    return TOLERANCES[device_of(ranks)]


def difference(ours: Weights, theirs: Weights) -> tuple[float, str]:
    """The largest difference of any parameter, and the name of that parameter."""
    if ours.keys() != theirs.keys():
        raise RuntimeError(f"parameters differ: {sorted(ours.keys() ^ theirs.keys())}")
    gaps = {name: (ours[name] - theirs[name]).abs().nan_to_num(torch.inf) for name in theirs}
    return max((float(gap.max()), name) for name, gap in gaps.items())


def gradient_checks(
    data: Sequence[TaskData],
    config: PretrainedConfig,
    stages: Sequence[str],
    ranks: int,
    weighting: str = "none",
) -> Iterator[Check]:
    """Check the gradient of these tasks under each ZeRO stage.

    Args:
        data: the tasks, whose training split is stored.
        config: of the encoder that a small one stands for.
        stages: of ZeRO, out of `STAGES`.
        ranks: number of processes.
        weighting: of the losses, as `--weighting` has it.
    """
    with tempfile.TemporaryDirectory(prefix="mtlplug-doctor-") as place:
        encoder = Path(place) / "encoder"
        kind = save_small(config, encoder)
        cases = [
            Case(f"zero{stage}", str(encoder), {"zero_optimization": {"stage": int(stage)}})
            for stage in stages
        ]
        # ZeRO-1 never waits for a micro-batch that other ranks do not have.
        wrong = {"zero_optimization": {"stage": 1}}
        cases.append(Case("control", str(encoder), wrong, fault="mean of means"))
        job = Job(Path(place), data, Recipe.of(data, ranks, weighting), cases)
        expected = reference(job, str(encoder))
        yield from _head_checks(job, expected)
        trained, reason = train_on_ranks(job, ranks)
        yield _steps(job, kind, ranks, trained)
        for stage, case in zip(stages, cases, strict=False):
            name = f"ZeRO-{stage}, {_ranks(ranks)}"
            if case.name in trained:
                yield _stage(job, name, trained[case.name], expected, tolerance_of(ranks))
            else:
                yield bad(name, reason or "was not trained", REMEDY)
        yield _control(trained.get("control"), expected, tolerance_of(ranks))


def _weights(model: MultiTaskModel) -> Weights:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def _head_checks(job: Job, expected: Reference) -> Iterator[Check]:
    """What can be said of the heads before any rank has started."""
    names = [f"{each.task.name} ({each.task.format})" for each in job.data]
    faults = []
    if expected.random:
        tasks = ", ".join(names[number] for number in expected.random)
        remedy = "use nn.Dropout, which can be switched off, for all that is random in a head"
        faults.append(bad("heads", f"losses of {tasks} differ when computed twice", remedy))
    if heads := [name for name in expected.unmoved if name.startswith("heads.")]:
        remedy = "every parameter of a head must take part in its scores, whatever the rows"
        faults.append(bad("heads", f"{_owned(job, heads[0])} never gets a gradient", remedy))
    if expected.moved < MOVED:
        found = f"no parameter moved by more than {expected.moved:.1e}"
        faults.append(bad("heads", found, "choose other tasks with --groups"))
    yield from faults or [ok("heads", f"of {', '.join(names)}: each parameter gets a gradient")]


def _steps(job: Job, kind: str, ranks: int, trained: Mapping[str, Trained]) -> Check:
    """What was trained, and whether it was a hard case."""
    recipe = job.recipe
    device = "GPUs" if device_of(ranks) == "cuda" else "the processor"
    found = (
        f"{recipe.steps} steps of {recipe.batch_size} features, split unevenly over "
        f"{_ranks(ranks)} on {device}, fp32, {kind}"
    )
    facts: dict[str, Any] = {"steps": recipe.steps, "batch_size": recipe.batch_size, "ranks": ranks}
    if not trained:
        return ok("gradient", found, **facts)
    seen = next(iter(trained.values())).seen
    counts = [sum(len(step) for step in rank) for rank in seen]
    steps = [
        [{task for part in rank[step] for task in part} for rank in seen]
        for step in range(recipe.steps)
    ]
    absent = sum(any(tasks != set.union(*by_rank) for tasks in by_rank) for by_rank in steps)
    found += f"; micro-batches of the ranks: {', '.join(map(str, counts))}"
    found += f"; heads absent on a rank in {absent} steps" if ranks > 1 else ""
    facts |= {"micro_batches": counts, "steps_with_absent_heads": absent}
    if ranks > 1 and not absent:
        remedy = "absent heads are what ZeRO gets wrong: choose more tasks with --groups"
        return note("gradient", found, remedy, **facts)
    return ok("gradient", found, **facts)


def _stage(job: Job, name: str, trained: Trained, expected: Reference, tolerance: float) -> Check:
    """Whether one stage gave the parameters of the reference."""
    error, worst = difference(trained.weights, expected.weights)
    facts = {"difference": error, "moved": expected.moved, "tolerance": tolerance}
    if error < tolerance:
        found = f"as one padded process: parameters moved by {expected.moved:.2f} differ by "
        return ok(name, f"{found}{error:.1e} at most (tolerance {tolerance:.0e})", **facts)
    found = f"parameters differ by up to {error:.1e} from one padded process"
    place = f"most in {_owned(job, worst)}"
    return bad(name, f"{found} (tolerance {tolerance:.0e}), {place}", REMEDY, **facts)


def _control(trained: Trained | None, expected: Reference, tolerance: float) -> Check:
    """Whether the same comparison notices a mean that is wrong on purpose."""
    if trained is None:
        return note("gradient, control", "was not reached")
    error, _ = difference(trained.weights, expected.weights)
    found = f"averaging each micro-batch by itself, wrong on purpose, differs by {error:.1e}"
    if error < 10 * tolerance:
        remedy = "this check proves nothing: choose other tasks with --groups"
        return bad("gradient, control", f"{found}, not noticed", remedy, difference=error)
    return ok("gradient, control", f"{found}: noticed", difference=error)


def _owned(job: Job, name: str) -> str:
    """A parameter's name, with the task whose head it belongs to."""
    if not name.startswith("heads."):
        return name
    task = job.data[int(name.split(".")[1])].task
    return f"'{name.split('.', 2)[2]}' of the head of task '{task.name}' (format {task.format})"


def _ranks(number: int) -> str:
    return f"{number} rank{'s' if number > 1 else ''}"
