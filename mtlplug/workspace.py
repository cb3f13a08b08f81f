"""What every command starts from: the plugins, the suite, the options and the tokenizer."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlplug.batching.mixes import Mix, make_mix
from mtlplug.config import Layer, RunConfig, merge
from mtlplug.data.build import Builder
from mtlplug.data.suites import DEMO, Suite, load_suite
from mtlplug.data.tables import parse_toml
from mtlplug.errors import MtlplugError
from mtlplug.plugin_manager import Plugins, load_plugins

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from mtlplug.model.weighting import Make


@dataclass(frozen=True)
class Workspace:
    """Plugins, suite and options, resolved.

    Attributes:
        plugins: the installed ones.
        suite: with the changes that options make to its tasks.
        config: the options.
        origins: where the value of each option comes from that somebody gave.
    """

    plugins: Plugins
    suite: Suite
    config: RunConfig
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def given(self) -> set[str]:
        """Names of the options that come from the command, its files and `--set`."""
        suite = f"suite '{self.suite.name}'"
        return {name for name, origin in self.origins.items() if origin != suite}

    @functools.cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The encoder's tokenizer."""
        from mtlplug.model.loading import load_tokenizer

        return load_tokenizer(self.config.model)

    @functools.cached_property
    def mix(self) -> Mix:
        """How often each task comes."""
        return make_mix(self.config.mix, self.plugins.registry)

    @functools.cached_property
    def weighting(self) -> Make:
        """What makes the weighting of the losses."""
        from mtlplug.model.weighting import make_weighting

        return make_weighting(self.config.weighting, self.plugins.registry)

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
    """Resolve the options of a command: what is given with them, `set` (a table), `config` (a
    TOML file), the suite's defaults and ours; the first of these that says something decides.

    Raises:
        MtlplugError: an option, the suite, or one of its tasks is wrong.
    """
    plugins = load_plugins()
    layers = _given(options)
    given, _ = merge(layers)
    name, data = given.get("suite") or DEMO, given.get("data")
    if data is not None and not data.is_dir():
        raise MtlplugError(f"data folder {data} does not exist; check --data")
    changes = given.get("tasks", {})
    suite = load_suite(name, plugins.formats, data, registry=plugins.registry, changes=changes)
    defaults = Layer(f"suite '{suite.name}'", suite.defaults, of_suite=True)
    values, origins = merge([defaults, *layers])
    config = RunConfig(**values)
    if not config.model:
        raise MtlplugError(
            f"suite '{suite.name}' names no encoder; give one with --model DIR_OR_ID"
        )
    workspace = Workspace(
        plugins,
        suite,
        replace(
            config,
            suite=name,
            model=_model(config.model, suite, given="model" in given),
            cache=(given.get("cache") or cache_folder()).expanduser(),
            output=given.get("output") or Path("runs") / f"{suite.name}-{config.groups}",
        ),
        origins,
    )
    _ = workspace.mix, workspace.weighting  # what is wrong with them is said before data is read
    return workspace


def _given(options: Mapping[str, Any]) -> list[Layer]:
    """What the user says: in a file, with --set, and as options of the command."""
    # An option that may be repeated, and is not there, is an empty tuple.
    own = {name: v for name, v in options.items() if name not in ("config", "set") and v != ()}
    layers = [Layer("--set", options.get("set") or {}), Layer("command line", own)]
    if (file := options.get("config")) is not None:
        table = {key.replace("-", "_"): value for key, value in parse_toml(Path(file)).items()}
        layers.insert(0, Layer(str(file), table))
    return layers


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
