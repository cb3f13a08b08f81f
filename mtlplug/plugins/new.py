"""`mtlplug plugins new`: write a distribution that installs, passes its tests and trains."""

from __future__ import annotations

import keyword
import re
import shutil
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

import click

from mtlplug import __version__
from mtlplug.errors import MtlplugError
from mtlplug.formats import CONTRACT
from mtlplug.plugin_manager import Plugins, load_plugins

FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "README.md": "README.md",
    "format.py.txt": "$module/__init__.py",
    "suite.toml": "$module/$name.toml",
    "train.jsonl": "$module/train.jsonl",
    "valid.jsonl": "$module/valid.jsonl",
    "test_format.py.txt": "tests/test_$name.py",
    "tests.yml": ".github/workflows/tests.yml",
}
"""Templates, and where each is written."""

NAME = re.compile("[a-z][a-z0-9_]*")


def new_plugin(name: str, output: Path | None) -> None:
    """Write the distribution `mtlplug-NAME` into a folder that is not there yet.

    Raises:
        MtlplugError: the name is none or is taken, the folder exists or cannot be written.
    """
    _check_name(name, load_plugins())
    words = {
        "name": name,
        "code": name.upper(),
        "class_name": name.title().replace("_", ""),
        "module": f"mtlplug_{name}",
        "distribution": f"mtlplug-{name.replace('_', '-')}",
        "version": __version__,
        "contract": str(CONTRACT),
    }
    folder = output or Path(words["distribution"])
    if folder.exists():
        raise MtlplugError(f"{folder} exists; remove it, or choose another folder with --output")
    unfinished = folder.with_name(f"{folder.name}.tmp")
    try:
        for template, place in FILES.items():
            path = unfinished / Template(place).substitute(words)
            path.parent.mkdir(parents=True, exist_ok=True)
            text = files("mtlplug.plugins").joinpath("templates", template).read_text("utf-8")
            path.write_text(Template(text).substitute(words), encoding="utf-8")
        unfinished.rename(folder)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise MtlplugError(f"{folder} cannot be written ({error.strerror})") from None
    code = words["code"]
    click.echo(
        f"{folder} brings the task format {code}; next:\n"
        f"  cd {folder} && pip install -e '.[test]' && pytest\n"
        f"  mtlplug run --suite {name} --groups SL+{code}"
    )


def _check_name(name: str, plugins: Plugins) -> None:
    """Refuse names that no module may have, and those of plugins, formats and packages.

    Raises:
        MtlplugError: says what it clashes with.
    """
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise MtlplugError(
            f"plugin name '{name}' is no plain name; use small letters, digits and '_', such as "
            "'rating'"
        )
    if taken := [each for each in plugins.plugins if each.name == name]:
        raise MtlplugError(
            f"a plugin '{name}' is installed ({taken[0].distribution}); choose another name"
        )
    if name.upper() in plugins.formats:
        raise MtlplugError(f"a task format '{name.upper()}' is installed; choose another name")
    module = f"mtlplug_{name}"
    if module in sys.modules or find_spec(module) is not None:
        raise MtlplugError(f"a module '{module}' is installed; choose another name")
