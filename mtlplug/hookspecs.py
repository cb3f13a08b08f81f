"""The hooks a plugin may implement. Nothing of the core is imported here at run time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from mtlplug.formats import TaskFormat
    from mtlplug.study.executors import Factory

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
def mtlplug_executors() -> Mapping[str, Factory]:  # type: ignore[empty-body]
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
