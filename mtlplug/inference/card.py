"""The model card of an exported run: what it was trained on, how well, at what cost, and how."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from mtlplug.config import RunConfig
from mtlplug.data.suites import Suite, load_suite
from mtlplug.errors import MtlplugError
from mtlplug.inference.trained import TrainedRun
from mtlplug.pages.wording import plural
from mtlplug.plugin_manager import load_plugins
from mtlplug.repeating import command_of
from mtlplug.training.record import FREE_TO_CHANGE

TEMPLATE = Path(__file__).with_name("card.md")

PURPOSES = {
    "ForTokenClassification": "token-classification",
    "ForSequenceClassification": "text-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMultipleChoice": "multiple-choice",
}
"""What the hub calls what a stock class is for."""

LANGUAGE = re.compile("[a-z]{2,3}")
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")

ANY = ("encoder", "model")
"""Folders named so hold an encoder, and the folder around them says which."""

PLAIN_CODE = """\
from transformers import AutoModel, AutoTokenizer

encoder = AutoModel.from_pretrained("{folder}")
tokenizer = AutoTokenizer.from_pretrained("{folder}")"""

CODE = """\
from transformers import AutoModel{suffix}, AutoTokenizer

model = AutoModel{suffix}.from_pretrained("{folder}")
tokenizer = AutoTokenizer.from_pretrained("{folder}")"""


def write_card(run: TrainedRun, task: str | None, stock: str, folder: Path, name: str) -> None:
    """Write `README.md` into an exported folder.

    Args:
        run: it comes from.
        task: whose head is in it; None for the encoder alone.
        stock: name of the stock class.
        folder: that is written.
        name: that the folder will have.
    """
    suffix = next((suffix for suffix in PURPOSES if stock.endswith(suffix)), None)
    code = CODE if suffix else PLAIN_CODE
    described = run.run["tasks"]
    what = (
        f"A `{stock}` for the task `{task}` (`{described[task]['format']}`)."
        if task
        else "The encoder of a multi-task run, without heads."
    )
    card = ModelCard.from_template(
        _metadata(run, task, PURPOSES.get(suffix or "", "feature-extraction"), name),
        template_path=str(TEMPLATE),
        title=name,
        what=what,
        version=run.run["mtlplug"],
        encoder=_encoder(run.run["options"]),
        groups=run.run["options"]["groups"],
        report=run.report,
        code=code.format(suffix=suffix, folder=name),
        tasks=[_row(key, described[key], run.report["tasks"][key]) for key in described],
        cost=_cost(run),
        command=_command(run.run),
    )
    card.save(folder / "README.md")


def _metadata(run: TrainedRun, task: str | None, purpose: str, name: str) -> ModelCardData:
    """The card's head, which the hub reads."""
    described, options = run.run["tasks"], run.run["options"]
    infos = [each.get("info", {}) for each in described.values()]
    languages = sorted(
        {i["language"] for i in infos if LANGUAGE.fullmatch(str(i.get("language", "")))}
    )
    model = options["model"]
    known = HUB_ID.fullmatch(model) and not Path(model).exists()
    shown = [task] if task else list(described)
    results = [
        EvalResult(
            task_type=purpose,
            dataset_type=key,
            dataset_name=key,
            dataset_split="validation",
            metric_type=run.report["tasks"][key]["metric"],
            metric_value=round(run.report["tasks"][key]["score"], 2),
        )
        for key in shown
    ]
    return ModelCardData(
        model_name=name,
        library_name="transformers",
        pipeline_tag=purpose,
        base_model=model if known else None,
        language=languages or None,
        license="other",
        license_name="see-training-data",
        tags=["mtlplug", "multi-task", *sorted({each["format"] for each in described.values()})],
        eval_results=results,
    )


def _row(name: str, described: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    split = next(iter(described["splits"].values()))
    info = described.get("info", {})
    return {
        "name": name,
        "format": described["format"],
        "rows": f"{split['rows']:,}",
        "labels": len(described["labels"]) or "-",
        "metric": report["metric"],
        "untrained": f"{report['untrained']:.1f}",
        "score": f"{report['score']:.1f}",
        "licence": _cell(info.get("licence", "not stated")),
        "source": _cell(info.get("source") or Path(split["source"]).name),
    }


def _cost(run: TrainedRun) -> str:
    report, versions = run.report, run.run["versions"]
    seconds = report["seconds"]
    number = report["world_size"]
    processes = "one process" if number == 1 else f"{number} processes"
    return (
        f"{plural(report['epochs'], 'epoch')}, {report['tokens']:,} tokens, "
        f"{seconds['training'] / 60:.1f} minutes of training and "
        f"{seconds['evaluation'] / 60:.1f} of evaluation, in {processes} "
        f"({run.run['device'].split(':')[0]}), {report['precision']}, ZeRO stage "
        f"{report['zero_stage']}; torch {versions['torch']}, DeepSpeed {versions['deepspeed']}, "
        f"transformers {versions['transformers']}."
    )


def _command(run: Mapping[str, Any]) -> str:
    """The command of a run, with all options that are not the default; paths by their names."""
    options = run["options"]
    suite = _suite(options)
    said = {name: options[name] for name in ("groups", "suite", "model")}
    said |= _changed(options, suite.defaults if suite else {})
    if _is_of_suite(options["model"], suite):
        del said["model"]
    for name in said.keys() & {"suite", "model", "deepspeed_config", "tasks"}:
        said[name] = _without_places(said[name])
    plugins = [_shown(value) for value in run.get("given_plugins", [])]
    return shlex.join(command_of(said, plugins, run["world_size"]))


def _encoder(options: Mapping[str, Any]) -> str:
    """The pretrained encoder, for a sentence."""
    suite = _suite(options)
    if suite and _is_of_suite(options["model"], suite):
        return f"the encoder of the suite `{suite.name}`"
    return f"the encoder `{_shown(options['model'])}`"


def _is_of_suite(model: str, suite: Suite | None) -> bool:
    """Whether the model is a folder that the suite brings."""
    if suite is None or suite.path is None:
        return False
    return suite.path.parent / str(suite.defaults.get("model")) == Path(model)


def _suite(options: Mapping[str, Any]) -> Suite | None:
    """The suite of a run, as long as it is there."""
    try:
        plugins = load_plugins()
        return load_suite(options["suite"], plugins.formats, registry=plugins.registry)
    except MtlplugError:
        return None


def _changed(options: Mapping[str, Any], of_suite: Mapping[str, Any]) -> dict[str, Any]:
    """The options that decide the result and are not the default: ours, or the suite's."""
    left_out = {*FREE_TO_CHANGE} - {"deepspeed_config", "tasks"}
    found = {}
    for name, default in RunConfig().as_dict().items():
        value = options.get(name, default)
        if name not in left_out and not value == default == of_suite.get(name, default):
            found[name] = value
    return found


def _without_places(value: Any) -> Any:
    """A value of options, of paths on this machine the last part alone."""
    if isinstance(value, Mapping):
        return {key: _without_places(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_places(each) for each in value]
    return _shown(value) if isinstance(value, str) and len(Path(value).parts) > 1 else value


def _shown(name_or_path: str) -> str:
    """A name on the hub as it is; of a path on this machine the last part that says something."""
    path = Path(name_or_path)
    if not (path.is_absolute() or path.exists()):
        return name_or_path
    return (path.parent.name if path.name in ANY else "") or path.name


def _cell(text: Any) -> str:
    return " ".join(str(text).replace("|", "/").split())
