"""Find the installed task formats; name the culprit where a plugin is broken.

Entry points are loaded one by one rather than by pluggy, so that a broken plugin costs only
itself, and two distributions that use the same entry-point name both load.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pluggy

from mtlplug import formats as contract
from mtlplug import hookspecs
from mtlplug.errors import MtlplugError, unknown
from mtlplug.formats import CHOICES, LENDS, TaskFormat
from mtlplug.plugin_registry import Named, Registry, brought_by
from mtlplug.plugin_sources import GROUP, distinct, file_version, sources

REQUIRED = ("code", "title", "headline")
"""Attributes every format must have."""

log = logging.getLogger("mtlplug")


@dataclass(frozen=True)
class Plugin:
    """What is known of one plugin, loaded, broken or switched off.

    Attributes:
        name: the entry point's name, or that of a module that `-p` named.
        distribution: what `pip` knows it by, with `version`; of a module that `-p` named its
            file, whose hash is the version.
        formats: codes of the formats it brings.
        error: why it could not be loaded; None where it was.
        hooks: names of the hooks it implements.
        remedy: what to do about the error.
        off: why it is switched off; empty where it is not.
    """

    name: str
    distribution: str
    version: str
    formats: tuple[str, ...] = ()
    error: str | None = None
    hooks: tuple[str, ...] = ()
    remedy: str = ""
    off: str = ""

    @property
    def status(self) -> str:
        """What users are told: "ok", or why it is not."""
        if self.off:
            return self.off
        return f"broken: {self.error}; {self.remedy}" if self.error else "ok"


@dataclass(frozen=True)
class Plugins:
    """The plugins found, the formats they bring by code, and what else they bring by name.

    Attributes:
        manager: knows the hooks that are called while something runs.
    """

    plugins: tuple[Plugin, ...] = ()
    formats: Mapping[str, TaskFormat] = field(default_factory=dict)
    registry: Registry = field(default_factory=Registry)
    manager: pluggy.PluginManager = field(default_factory=lambda: new_manager())


def new_manager() -> pluggy.PluginManager:
    """A manager that knows our hooks and no plugin."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    return manager


def load_plugins(found: Iterable[EntryPoint] | None = None) -> Plugins:
    """Load every plugin of the entry-point group `mtlplug`, and those that `-p` names.

    An installed plugin that cannot be imported, or returns something that is no format, is
    reported in `Plugin.error` and by a warning; the others go on.

    Args:
        found: the plugins; by default what `mtlplug.plugin_sources` finds.

    Raises:
        MtlplugError: two plugins bring something of the same name, `-p` names something
            that is not there, or what it names is broken.
    """
    manager, registry = new_manager(), Registry()
    plugins: list[Plugin] = []
    formats: dict[str, TaskFormat] = {}
    owners: dict[str, Plugin] = {}
    points = sources() if found is None else [(point, "") for point in distinct(found)]
    for point, off in points:
        plugin, brought, named = _load(manager, point, off)
        plugins.append(plugin)
        if plugin.error:
            if point.dist is None:  # somebody asked for this one
                raise MtlplugError(f"{_describe(plugin)}: {plugin.error}; {plugin.remedy}")
            log.warning("%s is left out: %s; %s", _describe(plugin), plugin.error, plugin.remedy)
        remedy = f"uninstall one of them, or switch it off, for example with -p {_no(plugin)}"
        registry.add(_describe(plugin), named, remedy)
        for task_format in brought:
            if task_format.code in formats:
                raise MtlplugError(
                    f"task format '{task_format.code}' comes from both "
                    f"{_describe(owners[task_format.code])} and {_describe(plugin)}; {remedy}"
                )
            formats[task_format.code] = task_format
            owners[task_format.code] = plugin
    return Plugins(tuple(plugins), formats, registry, manager)


def _load(
    manager: pluggy.PluginManager, point: EntryPoint, off: str
) -> tuple[Plugin, tuple[TaskFormat, ...], Named]:
    """One plugin and what it brings; any fault of its own becomes its `error`."""
    dist = point.dist
    plugin = Plugin(
        point.name, dist.metadata["Name"] if dist else "?", dist.version if dist else "?"
    )
    if off:
        return replace(plugin, off=off), (), {}
    name = f"{plugin.distribution}:{point.name}"
    try:
        module = point.load()
        if dist is None:
            place, version = file_version(module)
            plugin = replace(plugin, distribution=place, version=version)
        manager.register(module, name)
        # check_pending speaks of all plugins; what was registered before has passed it.
        manager.check_pending()
        hook = manager.subset_hook_caller(
            "mtlplug_task_formats",
            [other for other in manager.get_plugins() if other is not module],
        )
        formats = tuple(checked_format(item) for items in hook() for item in items)
        named = brought_by(manager, module)
        hooks = sorted(caller.name for caller in manager.get_hookcallers(module) or ())
    except (Exception, SystemExit) as error:  # whatever a plugin raises is its fault, not ours
        if manager.get_plugin(name) is not None:
            manager.unregister(name=name)
        reason = " ".join(str(error).split()) or "no message"
        if not isinstance(error, MtlplugError):
            reason = f"{type(error).__name__}: {reason}"
        return replace(plugin, error=reason, remedy=_remedy(plugin, error)), (), {}
    codes = tuple(task_format.code for task_format in formats)
    return replace(plugin, formats=codes, hooks=tuple(hooks)), formats, named


def _remedy(plugin: Plugin, error: BaseException) -> str:
    """What a user can do about a broken plugin."""
    missing = isinstance(error, ModuleNotFoundError) and error.name
    if plugin.distribution == "?":
        return f"install {missing}" if missing else "mend the file"
    if missing:
        return f"install {missing}, or switch the plugin off with -p {_no(plugin)}"
    return f"upgrade or uninstall {plugin.distribution}, or switch it off with -p {_no(plugin)}"


def checked_format(item: Any) -> TaskFormat:
    """What a hook gave, if it is a format of a contract that is kept here.

    Raises:
        TypeError: it is no format, or lacks one of `REQUIRED`.
        MtlplugError: it was written for another contract.
    """
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
    check_contract(item)
    for name in set(item.borrows) - set(LENDS):
        raise unknown("parameter for a head to borrow", name, LENDS)
    for each in item.chooses or ():
        if type(each) is not int and each not in CHOICES:
            raise unknown("thing to choose from", str(each), CHOICES)
    return item


def check_contract(item: TaskFormat) -> None:
    """Refuse a format that was written for a contract which is not this one.

    One that will be refused by the next version is warned of.

    Raises:
        MtlplugError: says which of the two to upgrade.
    """
    built, here, oldest = item.contract, contract.CONTRACT, contract.OLDEST_CONTRACT
    built_for = f"format {item.code} is built for contract {built} of mtlplug"
    if built > here:
        raise MtlplugError(f"{built_for}, this one has {here}: upgrade mtlplug")
    if built < oldest:
        raise MtlplugError(f"{built_for}, this one has {here}: upgrade the plugin")
    if built < here:
        log.warning("%s, which the next release refuses: upgrade the plugin", built_for)


def _describe(plugin: Plugin) -> str:
    return f"plugin '{plugin.name}' of {plugin.distribution} {plugin.version}"


def _no(plugin: Plugin) -> str:
    """What `-p` takes to switch a plugin off; one that came by `-p` has but a name."""
    where = "" if Path(plugin.distribution).is_file() else f"{plugin.distribution}:"
    return f"no:{where}{plugin.name}"
