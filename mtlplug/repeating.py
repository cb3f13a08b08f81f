"""The command that repeats a run: its options as words, its tables as TOML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mtlplug.config import NESTED, OF_THE_USER, RunConfig


def command_of(
    options: Mapping[str, Any], plugins: Sequence[str] = (), ranks: int = 1
) -> list[str]:
    """The words of the command that repeats a run.

    Args:
        options: see `words_of`.
        plugins: values of `-p`.
        ranks: of the run, as if all of them had been on one host.
    """
    start = ["torchrun", "--nproc-per-node", str(ranks), "-m"] if ranks > 1 else []
    return [*start, "mtlplug", "run", *words_of(options, plugins)]


def words_of(options: Mapping[str, Any], plugins: Sequence[str] = ()) -> list[str]:
    """Options of a run, by name, as words of a command; None, and what is empty, is left out."""
    words: list[str] = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if name in NESTED:
            flat = _flat(value, f"{name}.")
            words += [word for key, text in flat for word in ("--set", f"{key}={text}")]
        elif isinstance(value, list | tuple):
            words += [word for each in value for word in (option, str(each))]
        elif value is True:
            words.append(option)
        elif value is False and getattr(RunConfig, name, False):
            words.append(f"--no-{option[2:]}")
        elif value is False:  # a suite may say otherwise
            words += ["--set", f"{name}=false"] if name not in OF_THE_USER else []
        elif value is not None and value != "":
            words += [option, str(value)]
    return words + [word for each in plugins for word in ("-p", each)]


def _flat(table: Mapping[str, Any], before: str) -> list[tuple[str, str]]:
    """Dotted keys of nested tables, and their values as TOML has them."""
    found = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{before}{_key(key)}.")
        else:
            found.append((before + _key(key), as_toml(value)))
    return found


def as_toml(value: Any) -> str:
    """A JSON-like value as TOML writes it."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_key(key)} = {as_toml(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)  # texts, numbers, true and false are written alike


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name, ensure_ascii=False)
