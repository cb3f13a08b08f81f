"""The options of a run and their defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtlplug.errors import MtlplugError, did_you_mean, unknown

PRECISIONS = ("fp32", "bf16", "fp16")

CHANGEABLE = ("cuda_graphs", "gradient_checkpointing", "max_epochs", "max_tokens", "patience")
"""Options that a run may go on with changed, where the user says so: its batches stay the same."""

ALIASES = {
    "model_name_or_path": "model",
    "max_seq_length": "max_length",
    "output_dir": "output",
    "num_train_epochs": "max_epochs",
    "max_grad_norm": "gradient_clipping",
    "logging_steps": "log_every",
    "overwrite_output_dir": "overwrite",
    "report_to": "log_to",
    "deepspeed": "deepspeed_config",
}
"""Names that transformers' example scripts have for the same thing, and ours."""

DEFAULT = "default"
"""Where a value comes from that nobody gave."""

NESTED = frozenset({"tasks"})
"""Options that are tables, in which layers lie over one another key by key."""

OF_THE_USER = (
    "groups",
    "suite",
    "data",
    "output",
    "cache",
    "overwrite",
    "deepspeed_config",
    "allow_change",
    "log_to",
    "tasks",
    "ignore_memory",
)
"""Options that a suite may not set: they say what is run and where."""


@dataclass(frozen=True)
class RunConfig:
    """Everything a user can set for a run; one field per command-line option.

    The optimizer's defaults are those of transformers' Trainer, as Padmakumar et al. (2022),
    appendix B.2 has them; batch size and patience are the paper's.

    Attributes:
        groups: expression over groups and tasks, for example "SL+C".
        suite: name of a suite or path of its TOML file.
        model: folder or hub id of the pretrained encoder.
        data: folder the suite's relative paths start from.
        output: the run's folder.
        cache: folder of stored features, shared by runs.
        seed: of the mix, the new heads and dropout.
        precision: fp32, bf16 or fp16; None for what suits the machine.
        batch_size: features of one optimizer step, over all ranks.
        max_tokens: token budget of a micro-batch on one rank.
        max_length: most tokens of a sequence, where its task does not say.
        max_epochs: epochs over which the learning rate decays to zero.
        patience: epochs without a better mean validation loss before stopping.
        learning_rate: peak learning rate of AdamW.
        warmup_ratio: share of all steps over which the learning rate rises.
        weight_decay: AdamW's, on weights (not biases or normalisation).
        gradient_clipping: largest norm of the gradient; 0 for none.
        max_rows_per_task: most rows of each split; None for all.
        mix: how often each task comes: NAME or NAME:PARAMETER (`mtlplug.batching.mixes`).
        weighting: how losses of tasks are weighted: NAME or NAME:PARAMETER
            (`mtlplug.model.weighting`).
        deepspeed_config: a DeepSpeed JSON file; None for ours.
        gradient_checkpointing: recompute activations in the backward pass.
        cuda_graphs: on CUDA, launch the encoder's passes as graphs (`mtlplug.model.graphs`).
        log_every: steps between two lines of metrics.jsonl.
        log_to: trackers that get these lines too, by commas (`mtlplug.training.trackers`).
        keep_checkpoints: how many of the newest checkpoints are kept, beside the best epoch's.
        save_minutes: most minutes between two checkpoints.
        hang_seconds: after which a rank that does not go on ends the run; 0 for never.
        allow_change: options in which a run that goes on may differ from what it began with.
        overwrite: throw away a run that is in the output folder.
        ignore_memory: begin where memory seems too small, too.
        tasks: changes to the suite's tasks, by name, as the suite writes them.
    """

    groups: str = ""
    suite: str = "demo"
    model: str = ""
    data: Path | None = None
    output: Path = Path()
    cache: Path = Path()
    seed: int = 13
    precision: str | None = None
    batch_size: int = 128
    max_tokens: int = 8192
    max_length: int = 512
    max_epochs: int = 10
    patience: int = 3
    learning_rate: float = 5e-5
    warmup_ratio: float = 0.0
    weight_decay: float = 0.0
    gradient_clipping: float = 1.0
    max_rows_per_task: int | None = None
    mix: str = "proportional"
    weighting: str = "none"
    deepspeed_config: Path | None = None
    gradient_checkpointing: bool = False
    cuda_graphs: bool = True
    log_every: int = 10
    log_to: str = ""
    keep_checkpoints: int = 2
    save_minutes: float = 10.0
    hang_seconds: float = 120.0
    allow_change: tuple[str, ...] = ()
    overwrite: bool = False
    ignore_memory: bool = False
    tasks: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (
            "batch_size",
            "max_tokens",
            "max_length",
            "max_epochs",
            "log_every",
            "keep_checkpoints",
        ):
            _at_least(name, getattr(self, name), 1)
        for name in (
            *("patience", "weight_decay", "gradient_clipping", "seed"),
            *("save_minutes", "hang_seconds"),
        ):
            _at_least(name, getattr(self, name), 0)
        if self.seed >= 2**63:
            raise MtlplugError(f"--seed is {self.seed}; it must be below 2^63, as torch's are")
        if self.max_rows_per_task is not None:
            _at_least("max_rows_per_task", self.max_rows_per_task, 1)
        if not 0 < self.learning_rate < 1:
            raise MtlplugError(
                f"learning rate {self.learning_rate} is not between 0 and 1; "
                "encoders are tuned at 1e-5 to 1e-3"
            )
        if not 0 <= self.warmup_ratio < 1:
            raise MtlplugError(f"warmup ratio {self.warmup_ratio} is not between 0 and 1")
        for name in self.allow_change:
            if name not in CHANGEABLE:
                raise unknown("option to change in a run that goes on", name, CHANGEABLE)
        if self.precision is not None and self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)

    def as_dict(self) -> dict[str, Any]:
        """The options as JSON-like values."""
        return {
            key: str(value) if isinstance(value, Path) else value
            for key, value in dataclasses.asdict(self).items()
        }


@dataclass(frozen=True)
class Layer:
    """Options from one place.

    Attributes:
        origin: the place, for people.
        values: by name or alias, with underscores; None stands for nothing said.
        of_suite: whether a suite says them, which may not set what is the user's.
    """

    origin: str
    values: Mapping[str, Any]
    of_suite: bool = False

    @property
    def noun(self) -> str:
        """What its values are called."""
        return "default" if self.of_suite else "option"


def merge(layers: Sequence[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of all layers, of which later ones win, and where each comes from.

    Raises:
        MtlplugError: a layer has what is no option, or a value of the wrong type.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for name, value in _checked(layer).items():
            joined = name in NESTED and name in values
            values[name] = deep_merge(values[name], value) if joined else value
            origins[name] = layer.origin
    return values, origins


def resolve(given: Mapping[str, Any], suite_defaults: Mapping[str, Any], where: str) -> RunConfig:
    """A configuration from what was given, else the suite's defaults, else ours.

    Raises:
        MtlplugError: the suite sets a default that is no option or has the wrong type.
    """
    suite = Layer(where, suite_defaults, of_suite=True)
    return RunConfig(**merge([suite, Layer("options", given)])[0])


def deep_merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables laid over one another key by key; the upper one has the last word."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        both = isinstance(under, Mapping) and isinstance(value, Mapping)
        merged[key] = deep_merge(under, value) if both else value  # type: ignore[arg-type]
    return merged


def _checked(layer: Layer) -> dict[str, Any]:
    """The values of a layer under our names, in the types of the fields."""
    fields = {each.name: str(each.type) for each in dataclasses.fields(RunConfig)}
    known = {*fields} - {*OF_THE_USER} if layer.of_suite else {*fields}
    found = {}
    for key, value in layer.values.items():
        name = ALIASES.get(key, key)
        if name not in known:
            aliases = [alias for alias, ours in ALIASES.items() if ours in known]
            meant = did_you_mean(key, [*known, *aliases])
            raise MtlplugError(
                f"{layer.origin}: unknown {layer.noun} '{key}'{meant}; "
                f"known: {', '.join(sorted(known))}"
            )
        if value is not None:
            found[name] = _typed(value, fields[name], f"{layer.origin}: {layer.noun} '{key}'")
    return found


def _typed(value: Any, kind: str, what: str) -> Any:
    """A value of TOML or of a command as the type its field has."""
    if kind.startswith("float") and type(value) in (int, float):
        return float(value)
    if kind.startswith("Path") and isinstance(value, str | Path):
        return Path(value)
    if kind.startswith("tuple") and isinstance(value, list | tuple):
        return tuple(map(str, value))
    kinds = {"int": int, "str": str, "bool": bool, "Mapping[str, Any]": dict}
    wanted = kinds.get(kind.removesuffix(" | None"))
    if wanted is not None and type(value) is wanted:
        return value
    raise MtlplugError(f"{what} is {value!r}; it should be of type {kind}")


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:  # nor is NaN
        option = name.replace("_", "-")
        raise MtlplugError(f"--{option} is {value}; it must be {least} or more")
