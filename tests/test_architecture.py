"""The house: who imports whom, what no module may know, and that hooks are documented."""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

from mtlplug import hookspecs
from mtlplug.plugin_manager import load_plugins

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mtlplug"
LONGEST = 350

# From the ground up: a room may import its own and those below. `mtlplug` itself is the hook
# marker and the version.
CONTRACT = {
    "mtlplug.hookspecs",
    "mtlplug.ragged",
    "mtlplug.rows",
    "mtlplug.schemes",
    "mtlplug.spans",
    "mtlplug.formats",
    "mtlplug.heads",
    "mtlplug.scoring",
}
ROOMS = (
    {"mtlplug", "mtlplug.errors"},
    CONTRACT,
    {"mtlplug.plugin_sources"},
    {"mtlplug.plugin_registry"},
    {
        "mtlplug.plugin_manager",
        "mtlplug.config",
        "mtlplug.processor",
        "mtlplug.world",
        "mtlplug.demo",
        "mtlplug.suites",
        "mtlplug.pages",
    },
    {"mtlplug.completion", "mtlplug.option_values", "mtlplug.repeating"},
    {"mtlplug.options"},
    {"mtlplug.data"},
    {"mtlplug.batching"},
    {"mtlplug.model"},
    {"mtlplug.workspace"},
    {"mtlplug.listing", "mtlplug.plugin_commands"},
    {"mtlplug.training"},
    {"mtlplug.inference"},
    {"mtlplug.results", "mtlplug.bench", "mtlplug.doctor"},
    {"mtlplug.study", "mtlplug.testing", "mtlplug.api"},
    {"mtlplug.plugins"},
    {"mtlplug.cli"},
    {"mtlplug.run", "mtlplug.__main__"},
)

# Rooms that know less than those on their floor.
ONLY = {
    "mtlplug.demo": {"mtlplug", "mtlplug.demo", "mtlplug.errors"},
    "mtlplug.hookspecs": set[str](),
    "mtlplug.schemes": {"mtlplug.errors"},
    "mtlplug.__main__": {"mtlplug.cli"},
    "mtlplug.run": {"mtlplug.cli"},
}

# What a third party may import, and so what the plugins here import.
PUBLIC = {
    "mtlplug",
    "mtlplug.errors",
    "mtlplug.formats",
    "mtlplug.heads",
    "mtlplug.ragged",
    "mtlplug.schemes",
    "mtlplug.spans",
    "mtlplug.scoring",
}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
PLUGINS = sorted((ROOT / "plugins").glob("*.py"))


def imports(source: str, known: set[str] | None = None) -> set[str]:
    """Modules that a source imports at run time, also inside functions.

    Args:
        source: text of a module.
        known: modules that exist, so that `from a import b` is told from `from a.b import c`.
    """
    known = set(MODULES) if known is None else known
    found: set[str] = set()
    for node in _at_run_time(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute: run.py is started as a script"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else str(node.module))
    return found


def _at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from _at_run_time(child)


def ours(modules: set[str]) -> set[str]:
    """The modules of this package among others."""
    return {name for name in modules if name.split(".")[0] == "mtlplug"}


def room(module: str) -> str:
    """The room a module is in: itself, or the package below `mtlplug` that holds it."""
    return ".".join(module.split(".")[:2])


def floor(module: str) -> int:
    """How far above the ground a module's room is."""
    (number,) = (n for n, rooms in enumerate(ROOMS) if room(module) in rooms)
    return number


def upward(module: str, source: str) -> list[str]:
    """The imports of a module that do not go downwards, or go where it may not look."""
    wrong = []
    for other in sorted(ours(imports(source))):
        here, there = room(module), room(other)
        allowed = ONLY.get(here)
        downwards = floor(other) < floor(module)
        inside = here == there or {here, there} <= CONTRACT
        if not (downwards or inside) or (allowed is not None and there not in allowed):
            wrong.append(f"{module} imports {other}")
    return wrong


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards_only(module: str) -> None:
    """Every module imports its own room and those below; types for checkers are exempt."""
    assert upward(module, MODULES[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mtlplug.data.store", "from mtlplug.training import loop"),
        ("mtlplug.model.encoder", "def f():\n    import mtlplug.workspace"),
        ("mtlplug.errors", "import mtlplug.formats"),
        ("mtlplug.config", "from mtlplug import plugin_manager"),
        ("mtlplug.demo.world", "from mtlplug.ragged import Splits"),
        ("mtlplug.hookspecs", "from mtlplug.errors import MtlplugError"),
    ],
)
def test_an_upward_import_is_noticed(module: str, source: str) -> None:
    """The check can fail: each of these is refused, and allowed for type checkers."""
    assert len(upward(module, source)) == 1
    body = "\n".join(f"    {line}" for line in source.splitlines())
    assert upward(module, f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n{body}") == []


def test_no_two_modules_import_each_other() -> None:
    """Imports made when a module is loaded have no cycle."""
    graph = {}
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        # Inside functions an import may wait until all is loaded.
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        graph[module] = ours(imports(ast.unparse(tree))) - {"mtlplug"}
    while leaves := {module for module, needs in graph.items() if not needs}:
        graph = {m: needs - leaves for m, needs in graph.items() if m not in leaves}
    assert graph == {}


def constants(source: str) -> set[str]:
    """All strings in a source, the parts of f-strings too."""
    nodes = ast.walk(ast.parse(source))
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def test_the_core_names_no_format() -> None:
    """No string in `mtlplug/` is the code of a built-in format: nothing can branch on one."""
    found = load_plugins()
    codes = {
        code for each in found.plugins if each.distribution == "mtlplug" for code in each.formats
    }
    assert codes == {"SL", "QA", "C"}
    for module, path in MODULES.items():
        assert not codes & constants(path.read_text(encoding="utf-8")), module
    assert codes & constants('if task.format == "SL": pass') == {"SL"}


def test_the_core_imports_no_plugin() -> None:
    """Formats are found by entry point alone."""
    names = {path.stem for path in PLUGINS}
    for module, path in MODULES.items():
        assert not names & imports(path.read_text(encoding="utf-8")), module


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.stem)
def test_plugins_import_what_third_parties_may(path: Path) -> None:
    """The built-in formats have no private door into the core."""
    assert ours(imports(path.read_text(encoding="utf-8"))) <= PUBLIC
    assert not ours(imports("from mtlplug.data.tokens import Encode")) <= PUBLIC


def test_no_module_hides_another_package() -> None:
    """Under the launcher `mtlplug/` is first on the path: no name there is another package's."""
    required = {re.split(r"[^\w.-]", need)[0].casefold() for need in requires("mtlplug") or ()}
    theirs = {
        name
        for name, owners in packages_distributions().items()
        if required & {owner.casefold() for owner in owners}
    }
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert {"datasets", "tokenizers", "torch"} <= theirs
    assert not names & (theirs | sys.stdlib_module_names - {"__main__"})


@pytest.mark.parametrize("path", [*MODULES.values(), *PLUGINS], ids=lambda path: path.stem)
def test_no_module_is_long(path: Path) -> None:
    """A module that outgrows this holds two things."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


HOOKS = [name for name in vars(hookspecs) if name.startswith("mtlplug_")]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_and_tested(hook: str) -> None:
    """Its docstring has an example that implements it, and some test bears its name."""
    text = str(getattr(hookspecs, hook).__doc__)
    assert "Example::" in text
    example = ast.parse(textwrap.dedent(text.split("Example::")[1]))
    functions = [node for node in ast.walk(example) if isinstance(node, ast.FunctionDef)]
    (implementation,) = [each for each in functions if each.name == hook]
    assert [ast.unparse(each) for each in implementation.decorator_list] == ["mtlplug.hookimpl"]
    tests = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/test_*.py"))
    assert re.search(rf"^def test_{hook}\w*\(", tests, re.MULTILINE)


def test_there_are_hooks() -> None:
    """The test above has something to look at."""
    assert "mtlplug_task_formats" in HOOKS
