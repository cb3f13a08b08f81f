"""What people write behind options: `KEY=VALUE` in the manner of TOML, and lists of numbers."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import click

from mtlplug.config import deep_merge


def tables(ctx: Any, param: Any, values: tuple[str, ...]) -> dict[str, Any]:
    """Options given as A.B=C, each as a line of TOML, in one table."""
    found: dict[str, Any] = {}
    for value in values:
        key, equals, text = value.partition("=")
        try:
            table = _toml_line(key, text) or _toml_line(key, json.dumps(text))  # a plain word
        except RecursionError:
            table = None
        if table is None or not equals:
            raise click.BadParameter(
                f"'{value}' is not of the form KEY=VALUE, such as learning_rate=3e-5 or "
                "tasks.NAME.options.stride=64"
            )
        found = deep_merge(found, table)
    return found


def _toml_line(key: str, text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(f"{key.replace('-', '_') if '.' not in key else key} = {text}")
    except tomllib.TOMLDecodeError:
        return None


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """Numbers separated by commas."""

    name = "numbers"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """A list of numbers."""
        if isinstance(value, list):
            return value
        try:
            return [self.kind(part) for part in value.split(",")]
        except ValueError:
            self.fail(f"'{value}' is no list of numbers separated by commas, such as 1e-3,1e-4")


def pairs(ctx: Any, param: Any, values: tuple[str, ...]) -> dict[str, Any]:
    """Options given as KEY=VALUE, each value as TOML has it."""
    found: dict[str, Any] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"'{value}' is not of the form KEY=VALUE")
        try:
            found[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            found[key] = text  # a plain word
    return found
