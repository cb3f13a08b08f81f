"""What plugins bring by name: executors, suites, mixes, loss weightings, commands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pluggy

from mtlplug.errors import MtlplugError, unknown
from mtlplug.plugin_sources import code_digest

HOOKS = {
    "executor": "mtlplug_executors",
    "suite": "mtlplug_suites",
    "mix": "mtlplug_mixes",
    "loss weighting": "mtlplug_weightings",
    "command": "mtlplug_commands",
}
"""Kinds of things that have names, and the hook that brings each."""

Named = dict[str, dict[str, Any]]
"""By kind and name."""


def brought_by(manager: pluggy.PluginManager, plugin: Any) -> Named:
    """What one registered plugin brings.

    Raises:
        TypeError: a hook returns no names, or what a name stands for is of no use.
    """
    others = [other for other in manager.get_plugins() if other is not plugin]
    found: Named = {}
    for kind, hook in HOOKS.items():
        for things in manager.subset_hook_caller(hook, others)():
            if not isinstance(things, Mapping):
                raise TypeError(f"{hook} returned {type(things).__name__}, not names with values")
            for name, thing in things.items():
                _check(kind, name, thing)
            found[kind] = dict(things)
    return found


def _check(kind: str, name: Any, thing: Any) -> None:
    if not isinstance(name, str) or not name.replace("-", "_").isidentifier():
        raise TypeError(f"{kind} {name!r} has no plain name of letters, digits, '_' and '-'")
    if kind == "suite" and not Path(thing).is_file():
        raise TypeError(f"suite '{name}' is no file: {thing}")
    if kind != "suite" and not callable(thing):
        raise TypeError(f"{kind} '{name}' cannot be called")


class Registry:
    """What all plugins bring, each thing with the plugin it comes from."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, tuple[str, Any]]] = {kind: {} for kind in HOOKS}

    def add(self, owner: str, named: Named, remedy: str) -> None:
        """Take in what one plugin brings.

        Raises:
            MtlplugError: another one brings something of the same kind and name.
        """
        for kind, things in named.items():
            for name, thing in things.items():
                if name in self._found[kind]:
                    other = self._found[kind][name][0]
                    raise MtlplugError(
                        f"{kind} '{name}' comes from both {other} and {owner}; {remedy}"
                    )
                self._found[kind][name] = owner, thing

    def of(self, kind: str, ours: Mapping[str, Any]) -> dict[str, Any]:
        """All things of a kind by name: ours, and those of plugins.

        Raises:
            MtlplugError: a plugin brings one that has the name of one of ours.
        """
        for name, (owner, _) in self._found[kind].items():
            if name in ours:
                raise MtlplugError(
                    f"{kind} '{name}' of {owner} has the name of one that comes with mtlplug; "
                    "uninstall the plugin, or switch it off with -p"
                )
        return {**ours, **{name: thing for name, (_, thing) in self._found[kind].items()}}

    def make(self, kind: str, text: str, ours: Mapping[str, Any]) -> Any:
        """What the factory of `NAME` or `NAME:PARAMETER` gives for its parameter.

        Raises:
            MtlplugError: there is none of this name, or the parameter is wrong.
        """
        name, _, parameter = text.partition(":")
        known = self.of(kind, ours)
        if name not in known:
            raise unknown(kind, name, known)
        try:
            return known[name](parameter)
        except MtlplugError as error:
            raise MtlplugError(f"{kind} '{text}': {error}") from None
        except Exception as error:  # whatever a plugin raises is no fault of ours
            owner = self._found[kind].get(name, ("mtlplug", None))[0]
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise MtlplugError(f"{kind} '{text}' of {owner}: {reason}") from error

    def code(self, kind: str, text: str) -> str:
        """Hash of the code behind `NAME` or `NAME:PARAMETER`; empty where it is ours."""
        found = self._found[kind].get(text.partition(":")[0])
        return code_digest([found[1]]) if found else ""
