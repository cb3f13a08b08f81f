"""What a command of studies does first, before torch is imported.

Importing torch, transformers and DeepSpeed takes several seconds of a core. Where it is safe, the
driver imports them once and its workers are forked from it (`mtlplug.study.worker`); meanwhile
another copy of the driver reads the data on another core.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any


def import_all() -> bool:
    """Import what cells need; returns whether workers may be forked from this process.

    They may not where torch was there before: it may have been used.
    """
    untouched = _untouched()
    # Among a million objects that stay, looking for garbage takes a tenth of the time.
    gc.disable()
    try:
        # Classification imports it where it scores first, which every worker would.
        import sklearn.metrics  # noqa: F401

        import mtlplug.training.pretrain  # noqa: F401
        from mtlplug.plugin_manager import load_plugins

        load_plugins()
    finally:
        gc.enable()
    gc.freeze()
    return untouched


def read_ahead(options: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Let a copy of this process make the features that `open_study` will look for.

    It only helps: whatever goes wrong there, this process comes to it and says so.

    Args:
        options, given: as for `mtlplug.study.opening.open_study`.
    """
    if _untouched() and len(os.sched_getaffinity(0)) > 1:
        context = multiprocessing.get_context("fork")
        context.Process(target=_read, args=(options, given), daemon=True).start()


def _untouched() -> bool:
    return "torch" not in sys.modules and sys.platform == "linux"


def _read(options: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """What the copy does, silently."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    from mtlplug.listing import new_console
    from mtlplug.study.features import features_of
    from mtlplug.study.settings import settings_of
    from mtlplug.workspace import open_workspace

    workspace = open_workspace(options)
    features_of(workspace, settings_of(workspace, given), new_console(quiet=True), most_helpers=0)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
