"""What every command starts from: the plugins, the suite, the options and the tokenizer."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlplug.config import RunConfig, resolve
from mtlplug.data.build import Builder
from mtlplug.data.suites import Suite, load_suite
from mtlplug.errors import MtlplugError
from mtlplug.plugin_manager import Plugins, load_plugins

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Workspace:
    """Plugins, suite and options, resolved."""

    plugins: Plugins
    suite: Suite
    config: RunConfig

    @functools.cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The encoder's tokenizer."""
        from mtlplug.model.loading import load_tokenizer

        return load_tokenizer(self.config.model)

    def builder(self, limit: int | None = None) -> Builder:
        """What makes and opens feature stores for this encoder.

        Args:
            limit: the longest sequence it takes; None: its configuration is asked.
        """
        from mtlplug.model.loading import position_limit

        return Builder(
            tokenizer=self.tokenizer,
            cache=self.config.cache,
            max_length=self.config.max_length,
            limit=position_limit(self.config.model) if limit is None else limit,
            max_rows=self.config.max_rows_per_task,
        )


def open_workspace(options: Mapping[str, Any]) -> Workspace:
    """Resolve the options of a command against the suite it names.

    Raises:
        MtlplugError: an option, the suite, or one of its tasks is wrong.
    """
    plugins = load_plugins()
    name = options.get("suite") or "demo"
    data = options.get("data")
    if data is not None and not data.is_dir():
        raise MtlplugError(f"data folder {data} does not exist; check --data")
    suite = load_suite(name, plugins.formats, data)
    config = resolve(options, suite.defaults, f"suite '{suite.name}'")
    if not config.model:
        raise MtlplugError(
            f"suite '{suite.name}' names no encoder; give one with --model DIR_OR_ID"
        )
    return Workspace(
        plugins,
        suite,
        replace(
            config,
            suite=name,
            model=_model(config.model, suite, given=options.get("model") is not None),
            cache=(options.get("cache") or cache_folder()).expanduser(),
            output=options.get("output") or Path("runs") / f"{suite.name}-{config.groups}",
        ),
    )


def cache_folder() -> Path:
    """Where features and generated suites are kept between runs."""
    if folder := os.environ.get("MTLPLUG_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mtlplug"


def _model(model: str, suite: Suite, *, given: bool) -> str:
    """A model named by a suite may be a folder beside its TOML file."""
    if not given and suite.path is not None and (suite.path.parent / model).is_dir():
        return str(suite.path.parent / model)
    return str(Path(model).expanduser()) if model.startswith("~") else model
