"""Trains with machamp, from a checkout: its reader, its mixed batches, its training loop.

Where it works otherwise than mtlplug: a step is one batch of 32, its default (it cannot
accumulate, and at 128 it took four times as long for the same rows, since it copies the hidden
states of all layers once for each sentence of the batch); a word is read at its last sub-token,
not its first; the loss of a batch is the sum over the tasks of a mean over words (SL) or a sum
over texts (C); the tasks of a batch are drawn at random with replacement; gradients are not
clipped; the classifier is one linear layer; heads have one output more, for unknown labels, which
is left out of the validation loss.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from scoring import validation_losses
from torch import Tensor
from worker import Job, Pacer, read_job


def write_data(job: Job, folder: Path) -> dict[str, Any]:
    """The training rows as machamp reads them; returns its configuration of the datasets."""
    config: dict[str, Any] = {}
    columns: dict[str, Any]
    for task in job.tasks:
        name, path = task["name"], folder / f"{task['name']}.tsv"
        rows = job.rows(name)
        if task["format"] == "SL":
            blocks = (zip(row["tokens"], row["tags"], strict=True) for row in rows)
            text = "\n".join("".join(f"{word}\t{tag}\n" for word, tag in block) for block in blocks)
            kind, columns, label = "seq", {"word_idx": 0}, 1
        else:
            pair = rows[0]["text_pair"] is not None
            parts = ("label", "text", "text_pair") if pair else ("label", "text")
            text = "".join("\t".join(row[part] for part in parts) + "\n" for row in rows)
            kind, columns, label = "classification", {"sent_idxs": [1, 2][: len(parts) - 1]}, 0
        path.write_text(text, encoding="utf-8")
        tasks = {name: {"task_type": kind, "column_idx": label}}
        config[name] = {"train_data_path": str(path), "tasks": tasks, **columns}
    return config


def parameters(job: Job, load_json: Any) -> dict[str, Any]:
    """Its default parameters with ours in their place: mixed batches bounded by examples."""
    values: dict[str, Any] = load_json(str(Path(str(job.checkout)) / "configs" / "params.json"))
    values["transformer_model"] = job.model
    values["encoder"] |= {"dropout": 0.1, "max_input_length": job.max_length}
    values["batching"] |= {"batch_size": job.micro_batch, "max_tokens": 1 << 30, "diverse": True}
    values["training"] = {
        "num_epochs": 1,
        "keep_top_n": 1,
        "learning_rate_scheduler": {"cut_frac": 0.0},  # from the peak down to a 32nd of it
        "optimizer": {"lr": job.learning_rate, "betas": [0.9, 0.999], "weight_decay": 0.0},
    }
    return values


def at_last_subtoken(feature: Mapping[str, Any]) -> dict[str, Any]:
    """A sequence-labelling feature that reads each word where machamp does."""
    starts = feature["reads"]
    ends = [start - 1 for start in starts[1:]] + [len(feature["ids"]) - 2]
    return {**feature, "reads": ends}


def main() -> None:
    """One epoch, as its `train.py` runs it."""
    job = read_job()
    pacer = Pacer(job, ["torch", "transformers"])
    sys.path.insert(0, str(job.checkout))
    from machamp.model import trainer
    from machamp.utils import myutils

    folder = Path(job.scratch)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    configs = {"data": write_data(job, folder), "parameters": parameters(job, myutils.load_json)}
    for name, values in configs.items():
        (folder / f"{name}.json").write_text(json.dumps(values), encoding="utf-8")

    load, counters = trainer.MachampModel, []

    def counted(*args: Any, **options: Any) -> Any:
        model = load(*args, **options)
        counters.extend(pacer.count_tokens(model.mlm))
        return model

    def paced(batches: Any, **_: Any) -> Iterator[Any]:
        pacer.begin(len(batches))
        for batch in batches:
            yield batch  # comes back when the step is done
            pacer.step(len(batch), len(batch))
        for counter in counters:
            counter.remove()

    trainer.MachampModel, trainer.tqdm = counted, paced
    path = trainer.train("run", "parameters.json", ["data.json"], "cpu", seed=job.seed,
                         model_dir=str(folder / "run"))  # fmt: skip
    model = torch.load(path, weights_only=False).eval()
    pacer.finish(validation_losses(job.tasks, list(validation(job)), scores_of(model, job)))


def validation(job: Job) -> Iterable[dict[str, Any]]:
    """The validation features, read where machamp reads them."""
    formats = {task["name"]: task["format"] for task in job.tasks}
    for feature in job.features("valid"):
        yield at_last_subtoken(feature) if formats[feature["task"]] == "SL" else feature


def scores_of(model: Any, job: Job) -> Any:
    """Its model as `validation_losses` calls it: labels in our order."""
    tasks = {task["name"]: task for task in job.tasks}

    def logits(name: str, ids_BL: Tensor, types_BL: Tensor, mask_BL: Tensor) -> Tensor:
        known = model.vocabulary.get_vocab(name)
        columns = [known[label] for label in tasks[name]["labels"]]
        layers, _ = model.encoder.embed(ids_BL, types_BL, False, mask_BL.bool())
        hidden_BLD = layers[-1]
        if tasks[name]["format"] == "C":
            hidden_BLD = hidden_BLD[:, 0]
        scores: Tensor = model.decoders[name].hidden_to_label(hidden_BLD)
        return scores[..., columns]

    return logits


if __name__ == "__main__":
    main()
