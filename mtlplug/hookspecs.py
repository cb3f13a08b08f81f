"""The hooks a plugin may implement. Nothing of the core is imported here at run time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from mtlplug.formats import TaskFormat

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
