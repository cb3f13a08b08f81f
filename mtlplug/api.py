"""Training and looking at runs from Python; what the command line calls, too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlplug.data import suites
from mtlplug.data.suites import Suite
from mtlplug.plugin_manager import load_plugins

if TYPE_CHECKING:
    from mtlplug.inference.trained import TrainedRun
    from mtlplug.results.compare import Difference
    from mtlplug.results.evaluate import Evaluation
    from mtlplug.results.records import Record


def load_suite(name_or_path: str | Path = suites.DEMO, data: str | Path | None = None) -> Suite:
    """A suite: its tasks and groups.

    Args:
        name_or_path: `demo`, another one that comes with mtlplug, or a TOML file.
        data: folder that its relative paths start from; the file's own where None.

    Raises:
        MtlplugError: there is no such suite, or something in it is unknown or wrong.
    """
    folder = None if data is None else Path(data)
    plugins = load_plugins()
    return suites.load_suite(str(name_or_path), plugins.formats, folder, registry=plugins.registry)


def train(
    suite: Suite | str | Path | None = None, groups: str | None = None, **options: Any
) -> Run:
    """Pre-finetune one encoder on groups of tasks, as `mtlplug run` does.

    On the folder of an unfinished run it goes on; on that of a complete one it trains nothing.

    Args:
        suite: from `load_suite`, or its name or file; that of `config`, or the demo, where None.
        groups: groups or tasks joined by `+`, such as "SL+C".
        options: of `mtlplug run`, with underscores; `set` is a table of options and `config` a
            TOML file.

    Raises:
        MtlplugError: an option, the data, the model or the output folder is wrong.
        StoppedError: a signal asked for it; the state is saved.
    """
    from mtlplug.training.pretrain import pretrain
    from mtlplug.workspace import open_workspace

    workspace = open_workspace(_options(suite, groups, options))
    pretrain(workspace)
    return Run(workspace.config.output)


def preview(
    suite: Suite | str | Path | None = None, groups: str | None = None, **options: Any
) -> dict[str, Any]:
    """Print what `train` with the same arguments would do, with an estimate of time and memory.

    Returns:
        `options`, `deepspeed`, `memory` (bytes of a rank) and `seconds` (of an epoch).

    Raises:
        MtlplugError: as for `train`.
    """
    from mtlplug.training.preview import preview as show_preview

    return show_preview(_options(suite, groups, options))


@dataclass(frozen=True)
class Run:
    """The folder of a run.

    Attributes:
        folder: what `output` was.
    """

    folder: Path

    def __init__(self, folder: str | Path) -> None:
        object.__setattr__(self, "folder", Path(folder).expanduser())

    @property
    def record(self) -> Record:
        """What the run has written about itself so far: options, losses, scores.

        Raises:
            MtlplugError: the folder holds no run.
        """
        from mtlplug.results.records import read_record

        return read_record(self.folder)

    def show(self, html: str | Path | None = None) -> None:
        """Print the run, finished or not; with `html` write its page there instead.

        Raises:
            MtlplugError: the folder holds no run, or the page cannot be written.
        """
        from mtlplug.results.show import show

        show(self.folder, None if html is None else Path(html))

    def load(self, tasks: Iterable[str] | None = None) -> TrainedRun:
        """Encoder and heads, ready to predict: `mtlplug.load`.

        Raises:
            MtlplugError: the run is not complete, or has no such task.
        """
        from mtlplug.inference.trained import open_run

        return open_run(self.folder, tasks)

    def evaluate(self, task: str, split: str = "valid", **where: Any) -> Evaluation:
        """Score the head of a task on a split.

        Args:
            task: one of the run's.
            split: of that task.
            where: `suite`, `data`, `cache`, `all_rows`, as for
                `mtlplug.results.evaluate.evaluate_run`.

        Raises:
            MtlplugError: there is no such task or split, or its rows cannot be read.
        """
        from mtlplug.results.evaluate import evaluate_run

        return evaluate_run(self.folder, task, split, **where)

    def compare(
        self, other: Run | str | Path, task: str, split: str = "valid", **where: Any
    ) -> list[Difference]:
        """This run against another one on the same rows, by a paired bootstrap over rows.

        Raises:
            MtlplugError: as for `evaluate`, or the rows are not the same.
        """
        from mtlplug.results.compare import compare

        second = other if isinstance(other, Run) else Run(other)
        return compare(self.evaluate(task, split, **where), second.evaluate(task, split, **where))


def _options(
    suite: Suite | str | Path | None, groups: str | None, options: dict[str, Any]
) -> dict[str, Any]:
    """As commands have them."""
    if isinstance(suite, Suite):
        name = suites.DEMO if suites.is_demo(suite) else str(suite.path)
        return {"suite": name, "groups": groups, "data": suite.data, **options}
    return {"suite": None if suite is None else str(suite), "groups": groups, **options}
