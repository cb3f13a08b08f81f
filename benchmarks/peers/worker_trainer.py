"""Trains with transformers' Trainer: one encoder, a head per task, dynamic padding.

Written as a user of the Trainer would: a model that returns the loss, a collator that pads a
mixed batch to its longest sequence. It gets the very features that mtlplug trains on, in the
same order, and computes the same loss, so that nothing but the way of computing differs.

Shapes: B features, L tokens of the longest, D hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from scoring import IGNORE, padded, validation_losses
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModel, Trainer, TrainerCallback, TrainingArguments
from worker import Job, Pacer, read_job


class Classifier(nn.Module):
    """Dense, tanh, projection of the first token, as in transformers' sequence classifiers."""

    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        self.dense, self.projection = nn.Linear(width, width), nn.Linear(width, labels)
        self.dropout = nn.Dropout(0.1)

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """*Shape:* -> (B, K)."""
        first_BD = self.dropout(hidden_BLD[:, 0])
        return self.projection(self.dropout(self.dense(first_BD).tanh()))


class MultiTaskModel(nn.Module):
    """A shared encoder with one head per task."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(
            job.model, add_pooling_layer=False, dtype=torch.float32
        )
        self.tasks = list(job.tasks)
        width = self.encoder.config.hidden_size
        self.heads = nn.ModuleList(self._head(task, width) for task in job.tasks)
        for head in self.heads:
            head.apply(self.encoder._init_weights)

    @staticmethod
    def _head(task: Mapping[str, Any], width: int) -> nn.Module:
        if task["format"] == "C":
            return Classifier(width, len(task["labels"]))
        if task["format"] == "SL":
            return nn.Sequential(nn.Dropout(0.1), nn.Linear(width, len(task["labels"])))
        return nn.Linear(width, 2)

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor,
        attention_mask: Tensor,
        task: Tensor,
        read: Tensor,
        labels: Tensor,
    ) -> dict[str, Tensor]:
        """The mean over the batch of the features' losses.

        Args:
            input_ids: (B, L).
            token_type_ids: (B, L).
            attention_mask: (B, L).
            task: number of each feature's task, (B,).
            read: the tokens that its head scores, (B, L).
            labels: of tokens (SL), of the first token (C), or 1 at the first and 2 at the last
                token of the answer, 3 where they are one (QA); (B, L).
        """
        hidden_BLD = self.encoder(input_ids, attention_mask, token_type_ids).last_hidden_state
        total = hidden_BLD.new_zeros(())
        for number in task.unique().tolist():
            mine = task == number
            scores = self.heads[number](hidden_BLD[mine])
            code = self.tasks[number]["format"]
            total = total + _losses(code, scores, read[mine], labels[mine]).sum()
        return {"loss": total / len(task)}

    def logits(self, name: str, ids_BL: Tensor, types_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Scores for the validation loss."""
        number = [task["name"] for task in self.tasks].index(name)
        hidden_BLD = self.encoder(ids_BL, mask_BL, types_BL).last_hidden_state
        scores: Tensor = self.heads[number](hidden_BLD)
        return scores


def _losses(code: str, scores: Tensor, read_BL: Tensor, labels_BL: Tensor) -> Tensor:
    """The loss of each feature, (B,)."""
    if code == "C":
        return cross_entropy(scores, labels_BL[:, 0], reduction="none")
    if code == "SL":
        losses_BL = cross_entropy(
            scores.transpose(1, 2), labels_BL, ignore_index=IGNORE, reduction="none"
        )
        return losses_BL.sum(1) / (labels_BL != IGNORE).sum(1).clamp(min=1)
    scores = scores.masked_fill(~read_BL[..., None], float("-inf"))
    start_B = (labels_BL.clamp(min=0) & 1).argmax(1)
    end_B = (labels_BL.clamp(min=0) & 2).argmax(1)
    start, end = scores.unbind(-1)
    return (
        cross_entropy(start, start_B, reduction="none")
        + cross_entropy(end, end_B, reduction="none")
    ) / 2


def collator(tasks: Sequence[Mapping[str, Any]]) -> Callable[[Any], dict[str, Tensor]]:
    """Pads a mixed batch to its longest sequence."""
    numbers = {task["name"]: number for number, task in enumerate(tasks)}
    codes = {task["name"]: task["format"] for task in tasks}

    def collate(features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        reads, labels = [], []
        for feature in features:
            places = feature["reads"]
            label = [IGNORE] * len(feature["ids"])
            if codes[feature["task"]] == "QA":
                for bit, row in enumerate(feature["target"], start=1):
                    label[places[row]] = max(label[places[row]], 0) | bit
            else:
                for place, value in zip(places, feature["target"], strict=True):
                    label[place] = value
            labels.append(label)
            chosen = set(places)
            reads.append([place in chosen for place in range(len(label))])
        return {
            "input_ids": padded([feature["ids"] for feature in features], 0),
            "token_type_ids": padded([feature["types"] for feature in features], 0),
            "attention_mask": padded([[1] * len(feature["ids"]) for feature in features], 0),
            "task": torch.tensor([numbers[feature["task"]] for feature in features]),
            "read": padded(reads, 0).bool(),
            "labels": padded(labels, IGNORE),
        }

    return collate


def arguments(job: Job) -> dict[str, Any]:
    """Training arguments shared with tools that are built on the Trainer."""
    return {
        "output_dir": job.scratch,
        "per_device_train_batch_size": job.micro_batch,
        "gradient_accumulation_steps": job.batch_size // job.micro_batch,
        "num_train_epochs": 1,
        "learning_rate": job.learning_rate,
        "lr_scheduler_type": "linear",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "use_cpu": True,
        "seed": job.seed,
        "report_to": [],
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


class Pacing(TrainerCallback):
    """Hands the steps of a Trainer to the pacer."""

    def __init__(self, pacer: Pacer, rows: Sequence[float], batch_size: int) -> None:
        self._pacer = pacer
        self._rows = rows
        self._batch_size = batch_size

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """All is loaded."""
        self._pacer.begin(state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """An optimizer step is done."""
        end = state.global_step * self._batch_size
        rows = self._rows[end - self._batch_size : end]
        self._pacer.step(sum(rows), len(rows))


def main() -> None:
    """One epoch over the features."""
    job = read_job()
    pacer = Pacer(job, ["torch", "transformers", "accelerate"])
    features = job.features("train")
    model = MultiTaskModel(job)
    pacer.count_tokens(model)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            **arguments(job), remove_unused_columns=False, train_sampling_strategy="sequential"
        ),
        train_dataset=features,
        data_collator=collator(job.tasks),
        callbacks=[Pacing(pacer, [feature["rows"] for feature in features], job.batch_size)],
    )
    trainer.train()
    model.eval()
    valid = job.features("valid")
    pacer.finish(validation_losses(job.tasks, valid, model.logits))


if __name__ == "__main__":
    main()
