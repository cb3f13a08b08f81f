"""The example formats: shown whole in the docs, and short."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
# What is no format is shown elsewhere (docs/hooks.md).
MODULES = [
    path
    for path in sorted((ROOT / "examples").glob("mtlplug-*/mtlplug_*.py"))
    if (path.parent / "suite").is_dir()
]
MOST = 100


def lines_of_code(source: str) -> int:
    """Lines that hold code: no comments, docstrings or empty lines."""
    text = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            text.update(range(node.lineno, (node.end_lineno or 0) + 1))
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in text
        for number, line in enumerate(source.splitlines(), 1)
    )


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_an_example_is_shown_whole_and_short(module: Path) -> None:
    """The page shows it letter for letter, with its task; its code is under a hundred lines."""
    source = module.read_text(encoding="utf-8")
    assert f"```python\n{source}```" in PAGE, "copy it into docs/examples.md"
    _, _, task = (module.parent / "suite" / "suite.toml").read_text("utf-8").partition("[tasks.")
    assert f"```toml\n[tasks.{task}```" in PAGE
    assert lines_of_code(source) < MOST


def test_lines_of_code_are_counted() -> None:
    """The measure tells code from text about it."""
    assert lines_of_code('"""About."""\n\n# why\ndef f():\n    """What."""\n    return 1\n') == 2
