"""mtlplug: multi-task pre-finetuning of shared text encoders, with task formats as plugins."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from mtlplug.api import Run, load_suite, preview, train
    from mtlplug.inference.trained import open_run as load

__version__ = "0.1.0"

__all__ = ["Run", "hookimpl", "load", "load_suite", "preview", "train"]

hookimpl = pluggy.HookimplMarker("mtlplug")
"""Marks a plugin's functions that implement one of the hooks in `mtlplug.hookspecs`."""

_LATER = {
    "Run": ("mtlplug.api", "Run"),
    "load": ("mtlplug.inference.trained", "open_run"),
    "load_suite": ("mtlplug.api", "load_suite"),
    "preview": ("mtlplug.api", "preview"),
    "train": ("mtlplug.api", "train"),
}
"""Public names that need torch: module and name, imported when first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'mtlplug' has no attribute '{name}'")
    module, attribute = _LATER[name]
    return getattr(importlib.import_module(module), attribute)
