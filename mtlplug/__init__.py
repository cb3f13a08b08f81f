"""mtlplug: multi-task pre-finetuning of shared text encoders, with task formats as plugins."""

import pluggy

__version__ = "0.1.0"

hookimpl = pluggy.HookimplMarker("mtlplug")
"""Marks a plugin's functions that implement one of the hooks in `mtlplug.hookspecs`."""
