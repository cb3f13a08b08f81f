"""The README tells the truth about what it shows."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_format_shown_is_the_example() -> None:
    """The plugin in the README is, letter for letter, the one in `examples/`."""
    example = ROOT / "examples" / "mtlplug-regression" / "mtlplug_regression.py"
    assert f"```python\n{example.read_text(encoding='utf-8')}```" in README


def test_links_lead_somewhere() -> None:
    """Every relative link names a file of the repository."""
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_options_shown_exist() -> None:
    """Every option of a `mtlplug` command in the README is one that the command has."""
    from mtlplug.cli import main

    commands = list(main.commands.values())
    commands += [inner for each in commands for inner in getattr(each, "commands", {}).values()]
    known = {name for command in commands for p in command.params for name in p.opts}
    others = {"--num_gpus", "--no-deps", "--machamp"}  # of launchers, pip and our benchmarks
    shown = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", README)) - others
    assert shown
    assert shown - known == set()


def test_the_suite_shown_is_a_suite(tmp_path: Path) -> None:
    """It loads, names an encoder, and its groups can be selected."""
    from mtlplug.data.suites import load_suite
    from mtlplug.plugin_manager import load_plugins

    (shown,) = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "my.toml").write_text(shown, encoding="utf-8")
    suite = load_suite(str(tmp_path / "my.toml"), load_plugins().formats)
    assert suite.defaults["model"]
    assert {task.format for task in suite.select("SL+C")} == {"SL", "C"}
    assert [task.name for task in suite.select("shop")] == ["products", "reviews"]
