"""Calls plugins that watch a run: what they get are copies, and their faults are not the run's."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pluggy

from mtlplug.training.folder import RunFolder
from mtlplug.training.trackers import Tracker

log = logging.getLogger("mtlplug")

TOLD = "told.json"
"""In the run's folder, while it is not complete: up to which line plugins were told before."""


class Observers:
    """The plugins that watch one run, told by rank 0 alone.

    Args:
        manager: knows the plugins.
        trackers: that `--log-to` names.
        folder: of the run.
        active: whether this rank tells them.
    """

    def __init__(
        self,
        manager: pluggy.PluginManager,
        trackers: Sequence[Tracker],
        folder: RunFolder,
        *,
        active: bool,
    ) -> None:
        self._manager = manager
        self._trackers = trackers
        self._folder = folder
        self._active = active
        self._failed: set[tuple[str, str]] = set()
        self._told = [-1, 0]
        for tracker in trackers:
            manager.register(tracker, tracker.name)

    def rewind(self, size: int) -> None:
        """Go back to the first `size` bytes of metrics.jsonl; what follows is not told again."""
        self._told = max(self._folder.read(TOLD) or self._told, place_of(self._folder.last_line()))
        self._folder.rewind_log(size)
        if self._told[0] >= 0:
            self._folder.write(TOLD, self._told)

    def start(self, run: Mapping[str, Any], step: int) -> str | None:
        """A run starts or goes on; returns what is wrong with a tracker, or None.

        Somebody asked for the trackers, and nothing is lost yet.
        """
        if not self._active:
            return None
        for tracker in self._trackers:
            try:
                tracker.open(copy.deepcopy(run), self._folder.path)
            except (Exception, SystemExit) as error:  # whatever its library raises
                reason = _named(error)
                return f"--log-to {tracker.name} cannot start ({reason}); mend it, or leave it out"
        self._call("mtlplug_run_start", run=run, step=step)
        return None

    def log(self, line: Mapping[str, Any]) -> bool:
        """A line was written to metrics.jsonl; returns whether it is one not told before."""
        place = place_of(line)
        if place <= self._told:
            return False
        self._told = place
        self._call("mtlplug_log", event=line)
        return True

    def epoch_end(self, epoch: int, scores: Mapping[str, Any]) -> None:
        """An epoch was validated."""
        self._call("mtlplug_epoch_end", epoch=epoch, scores=scores)

    def end(self, report: Mapping[str, Any] | None) -> None:
        """A run is complete, or without a report not."""
        self._call("mtlplug_run_end", report=report)

    def _call(self, hook: str, **values: Any) -> None:
        """Call a hook of every plugin by itself; the first fault of each is said."""
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        for plugin in [each.plugin for each in implementations] if self._active else ():
            others = [other for other in self._manager.get_plugins() if other is not plugin]
            try:
                self._manager.subset_hook_caller(hook, others)(
                    folder=self._folder.path, **copy.deepcopy(values)
                )
            except (Exception, SystemExit) as error:  # hours of training are worth more
                failed = str(self._manager.get_name(plugin)), hook
                if failed not in self._failed:
                    self._failed.add(failed)
                    log.warning(
                        "plugin '%s' failed in %s (%s); the run goes on", *failed, _named(error)
                    )


def place_of(line: Mapping[str, Any] | None) -> list[int]:
    """Where a line of metrics.jsonl stands: after which step, and that scores follow losses."""
    return [line["step"], int(line["event"] != "step")] if line else [-1, 0]


def _named(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
