"""Exported folders: opened by transformers alone, whole or not there, with a card the hub reads."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from transformers import AutoModel, AutoModelForQuestionAnswering, AutoTokenizer, pipeline

from mtlplug.inference.card import write_card
from mtlplug.inference.trained import open_run
from tests.small_suite import command


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tasks of the run."""
    folder = tmp_path_factory.mktemp("exported") / "all"
    result = command("export", trained, "--all", "--to", folder)
    assert result.exit_code == 0, result.output
    assert str(folder / "kinds") in result.output.replace("\n", "")
    return folder


def test_pipelines_open_what_was_exported(trained: Path, exported: Path) -> None:
    """Labels and scores are those of `mtlplug predict`."""
    run, text = open_run(trained), "w1 w30 w2 w33"
    (found,) = run.predict("kinds", [text])
    (stock,) = pipeline("text-classification", str(exported / "kinds"), device="cpu")(text)
    assert (stock["label"], stock["score"]) == (found["label"], pytest.approx(found["score"]))
    (found,) = run.predict("tags", [text])
    tagger = pipeline(
        "token-classification", str(exported / "tags"), aggregation_strategy="simple", device="cpu"
    )
    ours = [(e["type"], e["start"], e["end"], pytest.approx(e["score"])) for e in found["entities"]]
    stock = [(e["entity_group"], e["start"], e["end"], float(e["score"])) for e in tagger(text)]
    assert stock == ours


def test_a_reader_opens_as_stock_class(trained: Path, exported: Path) -> None:
    """transformers has no pipeline for it; the best span of its scores is our answer."""
    question, context = "w7 ?", "w1 w7 w9 w30"
    (found,) = open_run(trained).predict("spans", [{"question": question, "context": context}])
    tokenizer = AutoTokenizer.from_pretrained(exported / "spans")
    model = AutoModelForQuestionAnswering.from_pretrained(exported / "spans")
    inputs = tokenizer(question, context, return_tensors="pt")
    with torch.no_grad():
        output = model(**inputs)
    first = inputs["input_ids"][0].tolist().index(tokenizer.convert_tokens_to_ids("w1"))
    token = first + context.split().index(found["candidates"][0]["text"].split()[0])
    last = token + len(found["candidates"][0]["text"].split()) - 1
    score = output.start_logits[0, token] + output.end_logits[0, last]
    assert float(score) == pytest.approx(found["candidates"][0]["score"], abs=1e-5)


def test_the_encoder_alone(trained: Path, tmp_path: Path) -> None:
    """It opens with AutoModel and has the weights of the run's."""
    result = command("export", trained, "--encoder", "--to", tmp_path / "encoder")
    assert result.exit_code == 0, result.output
    ours = AutoModel.from_pretrained(tmp_path / "encoder").state_dict()
    theirs = AutoModel.from_pretrained(trained / "encoder").state_dict()
    same = [torch.equal(ours[key], theirs[key]) for key in ours if not key.startswith("pooler")]
    assert all(same)
    assert "# encoder" in (tmp_path / "encoder" / "README.md").read_text()


def test_the_card_is_one_the_hub_library_reads(exported: Path) -> None:
    """Its head is parsed strictly, results survive their round trip, and nothing local is told."""
    card = ModelCard.load(exported / "tags" / "README.md", ignore_metadata_errors=False)
    data = card.data.to_dict()
    assert data["pipeline_tag"] == "token-classification"
    assert data["library_name"] == "transformers"
    assert data["license"] == "other"
    (result,) = card.data.eval_results
    assert (result.dataset_name, result.metric_type) == ("tags", "f1")
    index = eval_results_to_model_index("tags", card.data.eval_results)
    assert model_index_to_eval_results(index) == ("tags", card.data.eval_results)
    text = str(card)
    assert "| kinds | C | 24 | 2 | accuracy |" in text
    assert "mtlplug run --groups SL+QA+C --suite tiny.toml --precision fp32" in text
    assert "--learning-rate 0.01" in text
    assert "the encoder of the suite `tiny` was trained on 3 tasks at once" in text
    assert str(exported.parent.parent) not in text


def test_the_command_of_a_card_repeats_the_run(trained: Path, tmp_path: Path) -> None:
    """With its ranks, files by their names, changes of tasks, what is off or not the suite's."""
    run = open_run(trained, [])
    changed = {"deepspeed_config": "/mine/zero3.json", "cuda_graphs": False,
               "batch_size": 128,
               "tasks": {"tags": {"weight": 2, "train": "/mine/secret/train.tsv"}}}  # fmt: skip
    found = {**run.run, "world_size": 2, "options": {**run.run["options"], **changed}}
    write_card(replace(run, run=found), None, "BertModel", tmp_path, "name")
    command = (tmp_path / "README.md").read_text().split("```")[-2]
    assert command.startswith("\ntorchrun --nproc-per-node 2 -m mtlplug run --groups SL+QA+C ")
    assert "--deepspeed-config zero3.json --no-cuda-graphs --set tasks.tags.weight=2" in command
    assert 'tasks.tags.train="train.tsv"\'' in command
    assert "secret" not in command
    assert "--batch-size 128" in command  # ours, where the suite says 8


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("xlm-roberta-base", "xlm-roberta-base"),
        ("/mine/minilm", "minilm"),
        ("/mine/minilm/model", "minilm"),
        ("/mine/runs/demo-SL+C/encoder", "demo-SL+C"),
        ("/model", "model"),
    ],
)
def test_a_card_names_the_encoder(trained: Path, tmp_path: Path, model: str, name: str) -> None:
    """By its id, or by the folder whose name says something."""
    run = open_run(trained, [])
    found = {**run.run, "options": {**run.run["options"], "model": model}}
    write_card(replace(run, run=found), None, "BertModel", tmp_path, "name")
    text = (tmp_path / "README.md").read_text()
    assert f"the encoder `{name}` was trained" in text
    assert f"--model {name} " in text
    assert "mine" not in text


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ((), "say what to export: one of --task NAME, --all and --encoder"),
        (("--task", "kinds", "--all"), "say what to export"),
        (("--task", "kind"), "has no task 'kind' (did you mean 'kinds'?)"),
        (("--task", "kinds", "--to", "FULL"), "is there and not empty; choose another with --to"),
        (("--encoder", "--onnx"), "--onnx is for models with a head"),
    ],
)
def test_a_wrong_export_is_one_sentence(
    trained: Path, tmp_path: Path, more: tuple[str, ...], sentence: str
) -> None:
    """Nothing is written, and what is there stays."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    more = tuple(str(tmp_path / "full") if each == "FULL" else each for each in more)
    result = command("export", trained, "--to", tmp_path / "out", *more)
    assert result.exit_code == 2, result.output
    assert sentence in result.output
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]


def test_into_the_folder_one_is_in(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty one takes the files and stays the same folder."""
    place = tmp_path / "here"
    place.mkdir()
    before = place.stat().st_ino
    monkeypatch.chdir(place)
    result = command("export", trained.resolve(), "--encoder", "--to", ".")
    assert result.exit_code == 0, result.output
    assert (place / "model.safetensors").is_file()
    assert place.stat().st_ino == before
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_an_export_is_whole_or_not_there(trained: Path, tmp_path: Path) -> None:
    """A format that cannot export its head leaves nothing of the others either."""
    target = "mtlplug_c.Classification.export"
    with patch(target, side_effect=OSError(28, "No space left on device")):
        result = command("export", trained, "--all", "--to", tmp_path / "out")
    assert result.exit_code == 2
    assert "cannot be written (No space left on device)" in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_onnx_is_checked_against_torch(trained: Path, tmp_path: Path) -> None:
    """A model file that any number of sequences of any length go through."""
    if not all(find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript")):
        pytest.skip("needs the extra onnx: pip install 'mtlplug[onnx]'")
    result = command("export", trained, "--task", "spans", "--to", tmp_path / "m", "--onnx")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "m" / "model.onnx").is_file()
    from mtlplug.inference import onnx_model

    model = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "m").eval()
    assert onnx_model._difference(model, tmp_path / "m" / "model.onnx", 5, 40) < 1e-5
    for value in model.qa_outputs.parameters():
        torch.nn.init.ones_(value)
    assert onnx_model._difference(model, tmp_path / "m" / "model.onnx", 5, 40) > 1e-2


def test_onnx_without_its_extra_is_one_sentence(trained: Path, tmp_path: Path) -> None:
    """It says what to install, and nothing is written."""
    with patch("mtlplug.inference.onnx_model.NEEDED", ("onnx_of_nobody",)):
        result = command("export", trained, "--task", "tags", "--to", tmp_path / "m", "--onnx")
    assert result.exit_code == 2
    assert "pip install 'mtlplug[onnx]'" in result.output
    assert not list(tmp_path.iterdir())


class Hub:
    """Stands in for the hub: keeps what it is given, or raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.given: list[dict[str, Any]] = []

    def create_repo(self, repo: str, **options: Any) -> str:
        """The address of a repository."""
        if self.error:
            raise self.error
        self.given.append({"repo": repo, **options})
        return f"https://huggingface.co/{repo}"

    def upload_folder(self, **options: Any) -> SimpleNamespace:
        """Takes a folder."""
        self.given.append(options)
        return SimpleNamespace()


@pytest.mark.parametrize("public", [False, True])
def test_push_uploads_the_folder(
    exported: Path, monkeypatch: pytest.MonkeyPatch, public: bool
) -> None:
    """Private, unless it is said to be public; the address is printed."""
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    more = ("--public",) if public else ()
    result = command("push", exported / "tags", "--repo", "me/tags", *more)
    assert result.output == "https://huggingface.co/me/tags\n"
    made, uploaded = hub.given
    assert made == {"repo": "me/tags", "private": not public, "exist_ok": True}
    assert uploaded["folder_path"] == exported / "tags"


@pytest.mark.parametrize(
    ("token", "error", "repo", "sentence"),
    [
        (None, None, "me/tags", "nobody is logged in to the hub; run 'hf auth login'"),
        ("hf_x", OfflineModeIsEnabled("off"), "me/tags", "switched off by HF_HUB_OFFLINE"),
        ("hf_x", ConnectionError("no route"), "me/tags", "the hub did not take"),
        ("hf_x", None, "not/a/name", "'not/a/name' is no name of a repository"),
    ],
)
def test_what_cannot_be_pushed_is_one_sentence(
    exported: Path, monkeypatch: pytest.MonkeyPatch, token: str | None,
    error: Exception | None, repo: str, sentence: str,
) -> None:  # fmt: skip
    """Nobody logged in, no network, no such name."""
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: token)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: Hub(error))
    result = command("push", exported / "tags", "--repo", repo)
    assert result.exit_code == 2
    assert sentence in result.output


def test_only_an_exported_folder_is_pushed(trained: Path, tmp_path: Path) -> None:
    """The folder of a run is none."""
    result = command("push", trained, "--repo", "me/tags")
    assert "has no README.md; give the folder of one model" in result.output
    shutil.copytree(trained / "encoder", tmp_path / "encoder")
    assert command("push", tmp_path / "encoder", "--repo", "me/x").exit_code == 2
