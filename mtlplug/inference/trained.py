"""A finished run, opened: the encoder, its heads, and what is needed to use them.

Shapes: R rows of one head, D hidden width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import nn

from mtlplug.data.build import Builder
from mtlplug.data.tables import check_name
from mtlplug.data.tokens import Encode
from mtlplug.errors import MtlplugError, did_you_mean
from mtlplug.formats import Task, TaskFormat
from mtlplug.model.encoder import Encoder
from mtlplug.model.loading import load_tokenizer
from mtlplug.model.multitask import MultiTaskModel
from mtlplug.plugin_manager import load_plugins
from mtlplug.training.folder import RunFolder, is_report
from mtlplug.workspace import cache_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from mtlplug.inference.prediction import Predictor


@dataclass(frozen=True)
class TrainedRun:
    """A finished run, ready to predict; made by `open_run`.

    Attributes:
        folder: of the run.
        run: what `run.json` holds.
        report: what `report.json` holds.
        tokenizer: of the encoder.
        model: encoder and heads in evaluation mode, on their device.
        tasks: the tasks that were opened, by name, in the order of the heads.
        formats: the format of each of them, by the task's name.
        heads: the head of each of them, by the task's name.
        predictors: those that `predict` has made so far.
    """

    folder: Path
    run: Mapping[str, Any]
    report: Mapping[str, Any]
    tokenizer: PreTrainedTokenizerBase
    model: MultiTaskModel
    tasks: Mapping[str, Task]
    formats: Mapping[str, TaskFormat]
    heads: Mapping[str, nn.Module]
    predictors: dict[str, Predictor] = field(default_factory=dict, repr=False)

    @property
    def encoder(self) -> Encoder:
        """The encoder: packed wherever its family can be."""
        return self.model.encoder

    @property
    def device(self) -> torch.device:
        """Where encoder and heads are."""
        return next(self.model.parameters()).device

    def builder(self, cache: Path | None = None) -> Builder:
        """What encodes rows, and stores features, as the run itself did."""
        return Builder(
            tokenizer=self.tokenizer,
            cache=cache or cache_folder(),
            max_length=self.run["options"]["max_length"],
            limit=self.encoder.max_length,
        )

    def predict(
        self, task: str | Sequence[str], rows: Iterable[Any], **options: Any
    ) -> Iterator[Any]:
        """Predictions for rows, one each, in their order, as they are asked for.

        Args:
            task: name of a task, or several; with several each prediction is by task.
            rows: texts, or mappings with the columns that the task's format reads; the gold may
                be missing.
            options: of the formats, for example `n_best=3`.

        Raises:
            MtlplugError: a task or option is unknown, `rows` is one row, or a row lacks what a
                format needs.
        """
        from mtlplug.inference.prediction import Predictor, as_rows

        if isinstance(rows, str | Mapping):
            raise MtlplugError(f"rows is a single one, {rows!r:.60}; give a list of rows")
        names = [task] if isinstance(task, str) else list(task)
        key = repr((names, sorted(options.items())))
        if key not in self.predictors:  # its tokenizers are not made anew at every call
            self.predictors[key] = Predictor(self, names, options)
        predictions = self.predictors[key](as_rows(rows))
        return (each[task] for each in predictions) if isinstance(task, str) else predictions

    def encode(self, name: str) -> Encode:
        """The tokenizer service for rows of a task."""
        return self.builder().encode(self.tasks[name])


def open_run(
    folder: str | Path,
    tasks: Iterable[str] | None = None,
    *,
    device: str | torch.device | None = None,
) -> TrainedRun:
    """Open the folder of a finished run.

    Args:
        folder: what `mtlplug run --output` named.
        tasks: names of the tasks whose heads are wanted; all where None.
        device: where the model shall be; the first GPU, or the CPU, where None.

    Raises:
        MtlplugError: there is no run, it is not complete, a task is unknown, or a format is not
            installed or is not the one that it was trained with.
    """
    path = Path(folder).expanduser()
    run, report = _read(path)
    chosen = _chosen(path, run["tasks"], tasks)
    formats = _formats(path, run, chosen)
    encoder = Encoder.from_pretrained(str(path / "encoder"))
    found = {name: task_of(name, run["tasks"][name]) for name in chosen}
    model = MultiTaskModel(
        encoder, list(found.values()), [formats[name] for name in found], [1] * len(found)
    )
    model.run_absent_heads = False
    heads = dict(zip(found, model.heads, strict=True))
    for name, head in heads.items():
        _load_head(head, path / "heads" / f"{name}.safetensors")
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return TrainedRun(
        folder=path,
        run=run,
        report=report,
        tokenizer=load_tokenizer(str(path / "encoder")),
        model=model.to(place).eval(),
        tasks=found,
        formats=formats,
        heads=heads,
    )


def task_of(name: str, described: Mapping[str, Any]) -> Task:
    """A task as `run.json` describes it: prepared, but without its sources."""
    check_name("task", name, "run.json")  # it names the file of its head
    kept = ("format", "options", "metric", "weight", "facts")
    return Task(name, labels=tuple(described["labels"]), **{key: described[key] for key in kept})


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """`run.json` and `report.json` of a finished run.

    Raises:
        MtlplugError: the folder holds none.
    """
    folder = RunFolder(path)
    run, report = folder.read("run.json"), folder.read("report.json")
    if not isinstance(run, dict) or not {"mtlplug", "options", "tasks"} <= run.keys():
        raise folder.without_run()
    if not isinstance(report, dict):
        raise MtlplugError(
            f"the run in {path} is not complete; give the command that started it again, "
            "and it goes on"
        )
    if not is_report(report):
        raise folder.no_report()
    for part in (folder.encoder, folder.heads):
        if not part.is_dir():
            raise MtlplugError(
                f"the run in {path} has no {part.name}/; runs of a study keep only their scores, "
                "so train it with 'mtlplug run'"
            )
    return run, report


def _chosen(path: Path, known: Mapping[str, Any], names: Iterable[str] | None) -> list[str]:
    """The tasks asked for, each once, in the order they were asked for."""
    wanted = list(dict.fromkeys(known if names is None else names))
    for name in wanted:
        if name not in known:
            raise MtlplugError(
                f"the run in {path} has no task '{name}'{did_you_mean(name, known)}; "
                f"it has: {', '.join(known)}"
            )
    return wanted


def _formats(path: Path, run: Mapping[str, Any], names: Iterable[str]) -> dict[str, TaskFormat]:
    """The format of each task, as installed.

    Raises:
        MtlplugError: one is not installed, or makes other features than those trained on.
    """
    installed = load_plugins().formats
    found = {}
    for name in names:
        described = run["tasks"][name]
        code = described["format"]
        if code not in installed:
            brought = [each["distribution"] for each in run["plugins"] if code in each["formats"]]
            how = "give -p" if brought and brought[0].endswith(".py") else "install"
            remedy = f"; {how} {brought[0]}" if brought else ""
            raise MtlplugError(
                f"task '{name}' of the run in {path} is of format '{code}', which is not "
                f"installed{remedy}; installed: {', '.join(sorted(installed)) or 'none'}"
            )
        trained, now = described.get("format_version"), installed[code].version
        if trained not in (None, now):
            raise MtlplugError(
                f"task '{name}' of the run in {path} was trained with version {trained} of "
                f"format '{code}', and version {now} is installed; install the one it was "
                "trained with"
            )
        found[name] = installed[code]
    return found


def _load_head(head: nn.Module, path: Path) -> None:
    try:
        load_model(head, path)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise MtlplugError(
            f"the head {path} cannot be loaded ({reason:.200}); it may be damaged, or its format "
            "may have changed since"
        ) from None
