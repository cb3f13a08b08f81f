"""The same data for every tool: a sample of real rows, and the features mtlplug makes of them.

A folder holds, for each task, `TASK.train.jsonl` and `TASK.valid.jsonl` (rows: tokens and IOB2
tags; question, context and one answer; text, pair and label); `suite.toml`, which mtlplug reads;
and `MIX.train.features.jsonl`, the training features in the order in which mtlplug
trains on them, and `MIX.valid.features.jsonl`, on which all are scored.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from worker import Job

from mtlplug.batching.mixing import Pool
from mtlplug.data.build import TRAIN, VALID, TaskData
from mtlplug.data.suites import load_suite
from mtlplug.data.tokens import Encode
from mtlplug.formats import Row, Task
from mtlplug.pages.typesetting import new_console
from mtlplug.plugin_manager import load_plugins
from mtlplug.schemes import OUTSIDE, detect, to_iob2
from mtlplug.training.pretrain import build_data
from mtlplug.workspace import open_workspace

VALID_ROWS = 64


def prepare(folder: Path, suite: Path, data: Path, job: Job, examples: int) -> list[dict[str, Any]]:
    """Write the folder; returns name, format, labels and sizes of each task.

    Args:
        folder: to write.
        suite: TOML file of the tasks; those of the job's mix must be of formats SL, QA and C.
        data: folder of the suite's files.
        job: the model, the mix and what batches are like.
        examples: rows to train on, about: the same number for each task, in whole micro-batches,
            since some tools cannot join the rest of one task with another's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = load_suite(str(suite), load_plugins().formats, data).select(job.mix)
    rows = -(-examples // (len(chosen) * job.micro_batch)) * job.micro_batch
    tasks = [write_rows(folder, task, rows, job.seed) for task in chosen]
    (folder / "suite.toml").write_text("\n".join(map(_toml, tasks)), encoding="utf-8")
    write_features(folder, job)
    return tasks


def write_rows(folder: Path, task: Task, rows: int, seed: int) -> dict[str, Any]:
    """A random sample of a task's rows, written to its two files."""
    draw = random.Random(f"{seed} {task.name}")
    train = sample(usable(task, TRAIN), rows, draw)
    labels = sorted({label for row in train for label in labels_of(row)})
    labels.sort(key=lambda label: label != OUTSIDE)
    # A label that training does not show has no output in some tools.
    known = (row for row in usable(task, VALID) if labels_of(row) <= set(labels))
    valid = sample(known, VALID_ROWS, draw)
    for split, chosen in ((TRAIN, train), (VALID, valid)):
        write_lines(folder / f"{task.name}.{split}.jsonl", chosen)
    sizes = {"train_rows": len(train), "valid_rows": len(valid)}
    return {"name": task.name, "format": task.format, "labels": labels, **sizes}


def sample(rows: Iterable[dict[str, Any]], most: int, draw: random.Random) -> list[dict[str, Any]]:
    """Some of the rows, shuffled."""
    everything = list(rows)
    return draw.sample(everything, min(most, len(everything)))


def labels_of(row: dict[str, Any]) -> set[str]:
    """The labels in a row."""
    return set(row["tags"]) if "tags" in row else {row["label"]} if "label" in row else set()


def usable(task: Task, split: str) -> Iterator[dict[str, Any]]:
    """The rows of a split in the shape that all tools get."""
    shapes = {"SL": _sentence, "QA": _question, "C": _text}
    rows = list(task.sources[split].rows())
    scheme = detect(row["tags"] for row in rows) if task.format == "SL" else ""
    for row in rows:
        if shaped := shapes[task.format](row, scheme):
            yield shaped


def _sentence(row: Row, scheme: str) -> dict[str, Any] | None:
    tokens = ["".join(token.split()) for token in row["tokens"]]
    if not all(tokens) or not tokens:
        return None
    return {"tokens": tokens, "tags": to_iob2(row["tags"], scheme)[0]}


def _question(row: Row, _: str) -> dict[str, Any] | None:
    """Only one answer, and only where it stands where the file says."""
    pairs = zip(row["answers"]["answer_start"], row["answers"]["text"], strict=True)
    for start, text in pairs:
        if text == text.strip() != "" and row["context"].startswith(text, start):
            answers = {"text": [text], "answer_start": [start]}
            return {**{key: row[key] for key in ("id", "question", "context")}, "answers": answers}
    return None


def _text(row: Row, _: str) -> dict[str, Any] | None:
    text, pair = (" ".join((row.get(key) or "").split()) for key in ("text", "text_pair"))
    if row.get("label") in (None, "", "-1") or not text or ("text_pair" in row and not pair):
        return None
    return {"text": text, "text_pair": pair or None, "label": str(row["label"])}


def write_features(folder: Path, job: Job) -> None:
    """What mtlplug makes of the rows, for scoring and for the Trainer."""
    options = {
        "suite": str(folder / "suite.toml"), "cache": folder / "cache", "groups": job.mix,
        "model": job.model, "max_length": job.max_length,
    }  # fmt: skip
    workspace = open_workspace(options)
    data = build_data(workspace, workspace.suite.select(job.mix), new_console(quiet=True))
    builder = workspace.builder()
    made = {
        split: [list(features(each, split, builder.encode(each.task))) for each in data]
        for split in (TRAIN, VALID)
    }
    batches = Pool([len(task) for task in made[TRAIN]], job.batch_size, job.seed).epoch(0)
    train = (
        made[TRAIN][task][number]
        for members in batches
        for task, number in zip(members.tasks_B, members.features_B, strict=True)
    )
    write_lines(folder / f"{job.mix}.train.features.jsonl", train)
    write_lines(folder / f"{job.mix}.valid.features.jsonl", chain.from_iterable(made[VALID]))


def features(data: TaskData, split: str, encode: Encode) -> Iterator[dict[str, Any]]:
    """The features of a split as JSON; `rows` is the share of a row in each."""
    rows = list(data.task.sources[split].rows())
    made = list(data.format.features(data.task, rows, encode))
    for feature in made:
        (sequence,) = feature.sequences
        yield {
            "task": data.task.name,
            "rows": len(rows) / len(made),
            "ids": sequence.ids.tolist(),
            "types": sequence.types.tolist(),
            "reads": list(map(int, feature.reads)),
            "target": list(map(int, feature.target)),
        }


def write_lines(path: Path, records: Iterable[Any]) -> None:
    """JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _toml(task: dict[str, Any]) -> str:
    labels = f"labels = {json.dumps(task['labels'])}\n" if task["labels"] else ""
    files = "".join(f'{split} = "{task["name"]}.{split}.jsonl"\n' for split in (TRAIN, VALID))
    return f'[tasks.{task["name"]}]\nformat = "{task["format"]}"\n{files}{labels}'
