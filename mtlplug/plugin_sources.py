"""Which plugins are looked at: those installed, those named by `-p`, and which are switched off.

`-p` travels in the environment, so that ranks, helpers and the workers of a study load the same.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from mtlplug.errors import MtlplugError, unknown

GROUP = "mtlplug"
"""The entry-point group of built-in and third-party plugins alike."""

AUTOLOAD = "MTLPLUG_PLUGINS"
"""Where it is set, only installed plugins of these names are loaded, separated by commas."""

GIVEN = "MTLPLUG_GIVEN_PLUGINS"
"""What `-p` said, as a JSON list: set by the commands for the processes they start."""

OFF = "no:"


def give(values: Sequence[str]) -> None:
    """Keep values of `-p` for this process and those it starts; paths become absolute."""
    known = given()
    places = [str(Path(value).absolute()) if _is_path(value) else value for value in values]
    if new := [place for place in places if place not in known]:
        os.environ[GIVEN] = json.dumps([*known, *new])


def given() -> list[str]:
    """The values of `-p` so far."""
    values: list[str] = json.loads(os.environ.get(GIVEN) or "[]")
    return values


def names_of(point: EntryPoint) -> set[str]:
    """What users may call a plugin: its name, alone or after that of its distribution."""
    owner = point.dist.metadata["Name"] if point.dist else ""
    return {point.name, f"{owner}:{point.name}"}


def distinct(found: Iterable[EntryPoint]) -> list[EntryPoint]:
    """Entry points without the doubles that a source tree's own egg-info adds."""
    seen: dict[tuple[str, str, str], EntryPoint] = {}
    for point in found:
        owner = point.dist.metadata["Name"] if point.dist else ""
        seen.setdefault((owner, point.name, point.value), point)
    return sorted(
        seen.values(), key=lambda point: (point.dist.name if point.dist else "", point.name)
    )


def sources() -> list[tuple[EntryPoint, str]]:
    """Installed plugins and those of `-p`, each with the reason why it is off, or "".

    Raises:
        MtlplugError: `-p` or the variable names something that is not there.
    """
    points = distinct(entry_points(group=GROUP))
    known = {name for point in points for name in names_of(point)}
    values = given()
    on = {value for value in values if value in known}
    off = {value.removeprefix(OFF) for value in values if value.startswith(OFF)}
    modules = [value for value in values if not value.startswith(OFF) and value not in known]
    installed = {point.value for point in points}
    local = [point for value in modules if (point := _local(value, known)).value not in installed]
    known |= {point.name for point in local}
    only = _autoload()
    for name in sorted(off | (only or set())):
        if name not in known:
            raise unknown("plugin", name, (point.name for point in [*points, *local]))
    found = []
    for point in [*points, *local]:
        mine = names_of(point)
        reason = ""
        if mine & off:
            reason = f"off: -p no:{min(mine & off, key=len)}"
        elif only is not None and point in points and not mine & (only | on):
            reason = f"off: not named in {AUTOLOAD}"
        found.append((point, reason))
    return found


def _autoload() -> set[str] | None:
    """The names that the environment restricts loading to; None where it does not."""
    if (value := os.environ.get(AUTOLOAD)) is None:
        return None
    return {name.strip() for name in value.split(",") if name.strip()}


def _local(value: str, known: Iterable[str]) -> EntryPoint:
    """A plugin of no distribution: a Python file, or a module that can be imported."""
    if _is_path(value):
        value = _module_of(Path(value)).__name__
    elif importlib.util.find_spec(value.partition(".")[0]) is None:
        raise MtlplugError(
            f"-p {value}: no module of this name can be imported, and no plugin is called so; "
            f"give the path of a .py file, or one of {', '.join(sorted(known))}"
        )
    return EntryPoint(value, value, GROUP)


def _is_path(value: str) -> bool:
    return value.endswith(".py") or os.sep in value


def _module_of(path: Path) -> ModuleType:
    """The module in a file, loaded once in a process.

    Raises:
        MtlplugError: the file is not there, is broken, or has the name of another module.
    """
    if not path.is_file() or not path.stem.isidentifier():
        problem = "has a name that no module may have" if path.is_file() else "is no file"
        raise MtlplugError(f"-p {path} {problem}; give a Python file, such as my_format.py")
    name = path.stem
    module = sys.modules.get(name)
    if module is None and (found := importlib.util.find_spec(name)) is not None:
        taken = found.origin
    else:
        taken = getattr(module, "__file__", None) if module else str(path)
    if taken is None or not (Path(taken).exists() and Path(taken).samefile(path)):
        raise MtlplugError(f"-p {path} has the name of the module {taken or name}; rename the file")
    if module is not None:
        return module
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise MtlplugError(
            f"-p {path} cannot be loaded: {reason}; mend the file, or install what it needs"
        ) from error
    return module


def file_version(module: ModuleType) -> tuple[str, str]:
    """Path and hash of a plugin that no distribution brings, where others have name and version."""
    path = getattr(module, "__file__", None)
    if path is None:
        return module.__name__, "?"
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return path, f"sha256 {digest[:16]}"


def code_digest(things: Iterable[Any]) -> str:
    """Hash of the modules in which classes or functions are written.

    Empty where a source is not at hand, as in an interactive session.
    """
    code = hashlib.sha256()
    for thing in things:
        while isinstance(thing, partial):
            thing = thing.func
        try:
            code.update(inspect.getsource(inspect.getmodule(thing) or thing).encode())
        except (OSError, TypeError):
            return ""
    return code.hexdigest()
