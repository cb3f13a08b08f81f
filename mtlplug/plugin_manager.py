"""Find the installed task formats; name the culprit where a plugin is broken.

Entry points are loaded one by one rather than by pluggy, so that a broken plugin costs only
itself, and two distributions that use the same entry-point name both load.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from mtlplug import hookspecs
from mtlplug.errors import MtlplugError, unknown
from mtlplug.formats import LENDS, TaskFormat

GROUP = "mtlplug"
"""The entry-point group of built-in and third-party plugins alike."""

REQUIRED = ("code", "title", "headline")
"""Attributes every format must have."""

log = logging.getLogger("mtlplug")


@dataclass(frozen=True)
class Plugin:
    """What is known of one plugin, loaded or broken.

    Attributes:
        name: the entry point's name.
        distribution: what `pip` knows it by, with `version`.
        formats: codes of the formats it brings.
        error: why it could not be loaded; None where it was.
    """

    name: str
    distribution: str
    version: str
    formats: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Plugins:
    """The plugins found, the formats they bring by code, and the executors of studies by name."""

    plugins: tuple[Plugin, ...] = ()
    formats: Mapping[str, TaskFormat] = field(default_factory=dict)
    executors: Mapping[str, Any] = field(default_factory=dict)


def load_plugins(found: Iterable[EntryPoint] | None = None) -> Plugins:
    """Load every plugin of the entry-point group `mtlplug`.

    A plugin that cannot be imported, or returns something that is no format, is reported in
    `Plugin.error` and by a warning; the others go on.

    Raises:
        MtlplugError: two distributions bring a format of the same code.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    plugins: list[Plugin] = []
    formats: dict[str, TaskFormat] = {}
    owners: dict[str, Plugin] = {}
    for point in _distinct(entry_points(group=GROUP) if found is None else found):
        plugin, brought = _load(manager, point)
        plugins.append(plugin)
        if plugin.error:
            log.warning("%s is left out: %s", _describe(plugin), plugin.error)
        for task_format in brought:
            if task_format.code in formats:
                raise MtlplugError(
                    f"task format '{task_format.code}' comes from both "
                    f"{_describe(owners[task_format.code])} and {_describe(plugin)}; "
                    "uninstall one of them"
                )
            formats[task_format.code] = task_format
            owners[task_format.code] = plugin
    return Plugins(tuple(plugins), formats, _executors(manager))


def _executors(manager: pluggy.PluginManager) -> dict[str, Any]:
    """What makes the executors of all plugins, by name.

    Raises:
        MtlplugError: two plugins bring one of the same name, or one is nothing to call.
    """
    found: dict[str, Any] = {}
    for brought in manager.hook.mtlplug_executors():
        for name, factory in dict(brought).items():
            if name in found or not callable(factory):
                what = "comes from two plugins" if name in found else "cannot be called"
                raise MtlplugError(f"executor '{name}' {what}; uninstall the plugin")
            found[name] = factory
    return found


def _load(
    manager: pluggy.PluginManager, point: EntryPoint
) -> tuple[Plugin, tuple[TaskFormat, ...]]:
    """One plugin and its formats; any fault of its own becomes its `error`."""
    dist = point.dist
    distribution = dist.metadata["Name"] if dist else "?"
    version = dist.version if dist else "?"
    name = f"{distribution}:{point.name}"
    try:
        module = point.load()
        manager.register(module, name)
        # check_pending speaks of all plugins; what was registered before has passed it.
        manager.check_pending()
        hook = manager.subset_hook_caller(
            "mtlplug_task_formats",
            [other for other in manager.get_plugins() if other is not module],
        )
        formats = tuple(_checked(item) for items in hook() for item in items)
    except Exception as error:  # whatever a plugin raises is the plugin's fault, not ours
        if manager.get_plugin(name) is not None:
            manager.unregister(name=name)
        reason = " ".join(str(error).split()) or "no message"
        return Plugin(
            point.name, distribution, version, (), f"{type(error).__name__}: {reason}"
        ), ()
    codes = tuple(task_format.code for task_format in formats)
    return Plugin(point.name, distribution, version, codes), formats


def _checked(item: Any) -> TaskFormat:
    if not isinstance(item, TaskFormat):
        raise TypeError(
            f"mtlplug_task_formats returned {type(item).__name__}, not a TaskFormat instance"
        )
    for name in REQUIRED:
        value = getattr(item, name, None)
        if not isinstance(value, str) or not value:
            raise TypeError(f"format {type(item).__name__} has no '{name}'")
    if not item.code.isidentifier():
        raise TypeError(f"format code '{item.code}' is no plain name of letters, digits and '_'")
    for name in set(item.borrows) - set(LENDS):
        raise unknown("parameter for a head to borrow", name, LENDS)
    return item


def _distinct(found: Iterable[EntryPoint]) -> list[EntryPoint]:
    """Entry points without the doubles that a source tree's own egg-info adds."""
    seen: dict[tuple[str, str, str], EntryPoint] = {}
    for point in found:
        owner = point.dist.metadata["Name"] if point.dist else ""
        seen.setdefault((owner, point.name, point.value), point)
    return sorted(
        seen.values(), key=lambda point: (point.dist.name if point.dist else "", point.name)
    )


def _describe(plugin: Plugin) -> str:
    return f"plugin '{plugin.name}' of {plugin.distribution} {plugin.version}"
