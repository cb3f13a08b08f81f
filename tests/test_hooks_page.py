"""docs/hooks.md: every hook with its signature in mtlplug/hookspecs.py, and examples that run."""

from __future__ import annotations

import ast
import math
import re
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from mtlplug import hookspecs
from mtlplug.batching.mixes import OURS as MIXES
from mtlplug.model.weighting import OURS as WEIGHTINGS
from mtlplug.plugin_manager import new_manager
from mtlplug.plugin_registry import HOOKS
from mtlplug.training.trackers import TRACKERS

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
SPECS = {
    node.name: node
    for node in ast.parse(Path(hookspecs.__file__).read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef)
}


def test_the_page_has_every_hook_with_its_signature() -> None:
    """Names, parameters, their types and what is returned, in headings of their own."""
    headings = re.findall(r"^### `(.*)`$", PAGE, re.MULTILINE)
    expected = [f"{name}({ast.unparse(n.args)}) -> {ast.unparse(n.returns)}"  # type: ignore[arg-type]
                for name, n in SPECS.items()]  # fmt: skip
    assert sorted(headings) == sorted(expected)
    table = PAGE.split("## Bringing things")[0]
    assert all(f"`{name}`" in table for name in SPECS)


def test_what_has_a_name_comes_by_a_hook() -> None:
    """Every hook of the registry is a hook, and the page lists what comes with mtlplug."""
    assert set(HOOKS.values()) < set(SPECS)
    rows = re.findall(r"^\| `(\w+)", PAGE, re.MULTILINE)
    assert rows == [*MIXES, *WEIGHTINGS, *TRACKERS]


def test_the_example_plugin_is_shown_whole() -> None:
    """What the page shows is the file of the example."""
    folder = ROOT / "examples" / "mtlplug-impartial"
    code = (folder / "mtlplug_impartial.py").read_text(encoding="utf-8")
    assert f"```python\n{code}```" in PAGE
    names: dict[str, Any] = {}
    exec(code, names)
    weighting = names["mtlplug_weightings"]()["impartial"]("")(["one", "two"])
    weighting.scales_T.data[1] = -math.log(4)
    weighted_B = weighting(torch.tensor([3.0, 4.0]), torch.tensor([0, 1]), torch.tensor([1, 1]))
    assert weighted_B.tolist() == pytest.approx([3, 1 + math.log(4)])
    weighted_B.sum().backward()
    assert weighting.scales_T.grad.tolist() == pytest.approx([2, 0], abs=1e-6)  # least at 1 / L


@pytest.mark.parametrize("hook", SPECS)
def test_the_example_of_a_docstring_runs(hook: str) -> None:
    """It is a module that pluggy takes as an implementation of this hook."""
    text = textwrap.dedent(str(getattr(hookspecs, hook).__doc__).split("Example::")[1])
    module = types.ModuleType("example")
    module.__file__ = str(ROOT / "example.py")
    exec(text, {**vars(module), "BatchQueue": print}, vars(module))
    manager = new_manager()
    manager.register(module)
    manager.check_pending()
    assert [each.plugin for each in getattr(manager.hook, hook).get_hookimpls()] == [module]


def test_the_example_of_a_mix_keeps_its_sum() -> None:
    """The annealed mix of the docstring draws as many features in every epoch."""
    names: dict[str, object] = {}
    text = textwrap.dedent(str(hookspecs.mtlplug_mixes.__doc__).split("Example::")[1])
    exec(text, names)
    mix = names["annealed"]("4")  # type: ignore[operator]
    drawn = [mix({"a": 900, "b": 100}, epoch) for epoch in range(6)]
    assert {sum(each) for each in drawn} == {1000}
    assert drawn[0] == [900, 100]
    assert drawn[3][1] > drawn[1][1] > 100
    assert "mtlplug" in sys.modules
