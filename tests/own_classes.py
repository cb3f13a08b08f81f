"""A plugin in a file: a format C of its own, loaded where the built-in one is off (`WORDS`)."""

from collections.abc import Iterable

from mtlplug_c import Classification

import mtlplug
from mtlplug.formats import TaskFormat

WORDS = ("-p", __file__, "-p", "no:c")
"""With one of the two alone a command fails: no format C, or two of them."""


class Own(Classification):
    """The built-in format, by another name."""


@mtlplug.hookimpl
def mtlplug_task_formats() -> Iterable[TaskFormat]:
    """Called by mtlplug when it starts."""
    return [Own()]
