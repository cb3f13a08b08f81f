"""The hooks a plugin may implement. Nothing of the core is imported here at run time.

An implementation may leave out arguments that it does not need. `docs/hooks.md` lists them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from mtlplug.batching.mixes import Factory as MixFactory
    from mtlplug.formats import TaskFormat
    from mtlplug.model.weighting import Factory as WeightingFactory
    from mtlplug.study.executors import Factory as ExecutorFactory

hookspec = pluggy.HookspecMarker("mtlplug")


@hookspec
def mtlplug_task_formats() -> Iterable[TaskFormat]:  # type: ignore[empty-body]
    """Return the task formats this plugin brings, one instance of each.

    Called once at start-up. A format is stateless: the same instance serves all its tasks.

    Example::

        import mtlplug
        from mtlplug.formats import TaskFormat

        class Ranking(TaskFormat):
            code = "RANK"
            ...

        @mtlplug.hookimpl
        def mtlplug_task_formats():
            return [Ranking()]
    """


@hookspec
def mtlplug_suites() -> Mapping[str, Path]:  # type: ignore[empty-body]
    """Return suites by the name `--suite` knows them by, each the path of a TOML file.

    Paths of data in the file start from the file's own folder, or from `--data` where it is given.

    Example::

        from pathlib import Path

        import mtlplug

        @mtlplug.hookimpl
        def mtlplug_suites():
            return {"birds": Path(__file__).with_name("birds.toml")}
    """


@hookspec
def mtlplug_mixes() -> Mapping[str, MixFactory]:  # type: ignore[empty-body]
    """Return mixes by the name `--mix` knows them by: how often each task comes.

    A factory is called with what stands behind the colon of `--mix NAME:PARAMETER` (an empty text
    where there is none) and gives a function of the number of training features of each task, by
    name, and the number of an epoch, counted from 0. It says how many features of each task the
    epoch draws, in the same order; the sum must be the same in every epoch. The example goes from
    the tasks' own shares to nearly equal ones (Stickland and Murray, 2019, annealed sampling).

    Example::

        import mtlplug

        def annealed(parameter):
            epochs = int(parameter or 10)

            def mix(sizes, epoch):
                power = 1 - 0.8 * min(epoch / epochs, 1)
                shares = {task: size**power for task, size in sizes.items()}
                total, whole = sum(sizes.values()), sum(shares.values())
                counts = [int(total * share / whole) for share in shares.values()]
                return [counts[0] + total - sum(counts), *counts[1:]]

            return mix

        @mtlplug.hookimpl
        def mtlplug_mixes():
            return {"annealed": annealed}
    """


@hookspec
def mtlplug_weightings() -> Mapping[str, WeightingFactory]:  # type: ignore[empty-body]
    """Return loss weightings by the name `--weighting` knows them by.

    A factory is called with what stands behind the colon of `--weighting NAME:PARAMETER` (an empty
    text where there is none) and gives what makes a module of the prepared tasks. The module is
    called once in every forward pass, with the loss of each feature of the micro-batch, the number
    of its task and the number of rows its head read, each of shape (B,). It gives a loss for each,
    (B,), and the loss of a batch is their mean. Its parameters are trained, and parameters and
    buffers are saved in checkpoints; the parameters' learning rate is multiplied by its attribute
    `rate_factor`, where it has one. In the example only large losses count.

    Example::

        import mtlplug
        from torch import nn

        class Hard(nn.Module):
            def __init__(self, least):
                super().__init__()
                self.least = least

            def forward(self, losses_B, tasks_B, reads_B):
                return losses_B * (losses_B > self.least)

        def hard(parameter):
            return lambda tasks: Hard(float(parameter or 0.1))

        @mtlplug.hookimpl
        def mtlplug_weightings():
            return {"hard": hard}
    """


@hookspec
def mtlplug_executors() -> Mapping[str, ExecutorFactory]:  # type: ignore[empty-body]
    """Return executors for the cells of a study, by the name `--executor` knows them by.

    A factory is called with `mtlplug.study.executors.Resources` and gives an `Executor`, which
    runs `mtlplug.study.cell.run_cell(folder, cell)` wherever it likes.

    Example::

        import mtlplug

        def queue(resources):
            return BatchQueue(resources.folder, resources.workers or 100)

        @mtlplug.hookimpl
        def mtlplug_executors():
            return {"queue": queue}
    """


@hookspec
def mtlplug_run_start(run: Mapping[str, Any], folder: Path, step: int) -> None:
    """Called on rank 0 when a run starts or goes on, before the first step.

    This hook, and those below, get copies: what they do to them changes nothing. A fault in one of
    them is named once as a warning, and training goes on.

    Args:
        run: what `run.json` holds.
        folder: of the run.
        step: optimizer steps done before; above 0 where a run goes on.

    Example::

        import mtlplug

        @mtlplug.hookimpl
        def mtlplug_run_start(run, folder):
            print(f"training on {', '.join(run['tasks'])} in {folder}")
    """


@hookspec
def mtlplug_log(event: Mapping[str, Any], folder: Path) -> None:
    """Called on rank 0 with every line that goes to `metrics.jsonl`, after it is written.

    Once for each line, also where an interrupted run does some steps again.

    Args:
        event: the line: `event` is "untrained", "step" or "validation", `step` counts optimizer
            steps; numbers that are none are None.
        folder: of the run.

    Example::

        import mtlplug

        @mtlplug.hookimpl
        def mtlplug_log(event):
            if event["event"] == "step":
                print(event["step"], event["loss"])
    """


@hookspec
def mtlplug_epoch_end(epoch: int, scores: Mapping[str, Mapping[str, float]], folder: Path) -> None:
    """Called on rank 0 after the validation of an epoch; once for each epoch.

    Args:
        epoch: counted from 1.
        scores: by task: `loss`, `headline` and the format's metrics.
        folder: of the run.

    Example::

        import mtlplug

        @mtlplug.hookimpl
        def mtlplug_epoch_end(epoch, scores):
            worst = min(scores, key=lambda task: scores[task]["headline"])
            print(f"epoch {epoch}: lowest score on {worst}")
    """


@hookspec
def mtlplug_run_end(report: Mapping[str, Any] | None, folder: Path) -> None:
    """Called on rank 0 when a run is over: complete, stopped or failed.

    Args:
        report: what `report.json` holds; None where the run is not complete.
        folder: of the run.

    Example::

        import mtlplug

        @mtlplug.hookimpl
        def mtlplug_run_end(report, folder):
            (folder / "done.txt").write_text("complete" if report else "not complete")
    """


@hookspec
def mtlplug_commands() -> Mapping[str, click.Command]:  # type: ignore[empty-body]
    """Return commands by the name under which `mtlplug NAME` runs them.

    They are looked for only where mtlplug itself has no command of that name, so that it starts
    fast; `mtlplug --help` does not list them.

    Example::

        import click

        import mtlplug

        @click.command()
        @click.argument("name")
        def greet(name):
            click.echo(f"hello {name}")

        @mtlplug.hookimpl
        def mtlplug_commands():
            return {"greet": greet}
    """
