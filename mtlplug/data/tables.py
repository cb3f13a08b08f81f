"""What users write in TOML files: reading them, and checks of keys, types and names."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtlplug.errors import MtlplugError, did_you_mean

Types = Mapping[str, tuple[type, ...]]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
TYPE_NAMES = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


def parse_toml(path: Path) -> dict[str, Any]:
    """What a TOML file holds.

    Raises:
        MtlplugError: it cannot be read, or is no TOML.
    """
    try:
        # Editors put a byte order mark in front, which TOML knows nothing of.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise MtlplugError(f"{path} is not UTF-8, which TOML files are; save it as UTF-8") from None
    except ValueError as error:  # TOMLDecodeError is one; so is that of a number too long
        raise MtlplugError(f"{path} is bad TOML: {error}") from None
    except RecursionError:
        raise MtlplugError(f"{path} is bad TOML: nested too deeply; mend it") from None
    except OSError as error:
        raise MtlplugError(f"file {path} cannot be read ({error.strerror})") from None


def check_table(table: Mapping[str, Any], types: Types, where: str) -> None:
    """Refuse unknown keys and values of another type than the key's.

    Raises:
        MtlplugError: names `where`, the key, and the key that may be meant.
    """
    for key, value in table.items():
        if key not in types:
            raise MtlplugError(
                f"{where}: unknown key '{key}'{did_you_mean(key, types)}; "
                f"known: {', '.join(sorted(types))}"
            )
        if type(value) not in types[key]:
            wanted = " or ".join(TYPE_NAMES.get(kind, kind.__name__) for kind in types[key])
            raise MtlplugError(f"{where}: {key} is {value!r:.60}; it should be {wanted}")


def check_name(kind: str, name: str, where: str) -> None:
    """Refuse names that cannot stand in an expression (`SL+C`) or in the name of a file.

    Raises:
        MtlplugError: the name has other characters than those of `NAME`, or two dots in a row.
    """
    if not NAME.fullmatch(name) or ".." in name:
        raise MtlplugError(
            f"{where}: {kind} {name[:120]!r} is no usable name; take up to 100 letters, digits, "
            "'_', '-' and single dots, beginning with a letter or digit"
        )
