"""Trains with tasknet: its tasks, its model, its Trainer.

Where it works otherwise than mtlplug: every micro-batch holds one task; a long context is cut,
not made into windows; all sub-tokens of a word are trained on; token types are not given to the
encoder; a learnt embedding of the task is added to the first token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import evaluate

evaluate.load = lambda *_, **__: None  # `import tasknet` would fetch metrics from the hub

import tasknet  # noqa: E402
import torch  # noqa: E402
from datasets import ClassLabel, Dataset, DatasetDict, Sequence  # noqa: E402
from scoring import validation_losses  # noqa: E402
from torch import Tensor  # noqa: E402
from worker import Job, Pacer, read_job  # noqa: E402
from worker_trainer import Pacing, arguments  # noqa: E402


def dataset(job: Job, task: Mapping[str, Any]) -> DatasetDict:
    """The rows of a task in the columns that tasknet reads; it wants all three splits."""
    # Tasks with equal label names would share their classifier's weights.
    names = ClassLabel(names=[f"{task['name']} {label}" for label in task["labels"]])
    rows = job.rows(task["name"])
    numbers = {label: number for number, label in enumerate(task["labels"])}
    if task["format"] == "QA":
        made = Dataset.from_list(rows)
    elif task["format"] == "SL":
        columns = {
            "tokens": [row["tokens"] for row in rows],
            "labels": [[numbers[tag] for tag in row["tags"]] for row in rows],
        }
        made = Dataset.from_dict(columns).cast_column("labels", Sequence(names))
    else:
        texts = {"sentence1": [row["text"] for row in rows]}
        if rows[0]["text_pair"] is not None:
            texts["sentence2"] = [row["text_pair"] for row in rows]
        labels = [numbers[row["label"]] for row in rows]
        made = Dataset.from_dict({**texts, "labels": labels}).cast_column("labels", names)
    few = made.select(range(2))
    return DatasetDict(train=made, validation=few, test=few)


def tasks(job: Job) -> list[Any]:
    """The tasks in tasknet's classes."""
    classes = {
        "SL": tasknet.TokenClassification,
        "QA": tasknet.QuestionAnswering,
        "C": tasknet.Classification,
    }
    return [classes[task["format"]](dataset(job, task), name=task["name"]) for task in job.tasks]


def main() -> None:
    """One epoch over the rows."""
    job = read_job()
    pacer = Pacer(job, ["tasknet", "torch", "transformers", "accelerate", "datasets"])
    options = {**arguments(job), "model_name": job.model, "max_length": job.max_length}
    mine = tasks(job)
    model, trainer = tasknet.Model_Trainer(mine, options)
    # Without this gradients of the micro-batches of a step would be added, not averaged.
    trainer.model_accepts_loss_kwargs = False
    rows = [1.0] * sum(len(task.dataset["train"]) for task in mine)
    pacer.count_tokens(model)
    trainer.add_callback(Pacing(pacer, rows, job.batch_size))
    trainer.train()
    model.eval()

    def logits(name: str, ids_BL: Tensor, types_BL: Tensor, mask_BL: Tensor) -> Tensor:
        number = [task["name"] for task in job.tasks].index(name)
        output = model.task_models_list[number](input_ids=ids_BL, attention_mask=mask_BL)
        if job.tasks[number]["format"] == "QA":
            return torch.stack((output.start_logits, output.end_logits), -1)
        return output.logits

    valid = job.features("valid")
    pacer.finish(validation_losses(job.tasks, valid, logits))


if __name__ == "__main__":
    main()
