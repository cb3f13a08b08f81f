"""The contract: what a task format is, and what it gets and gives.

A format turns the encoder's output into predictions. It names the token positions its head
needs (`Feature.reads`); the core packs features of all tasks together, runs the encoder once,
and hands each head its own rows. A format never sees padding, masks, ranks or devices.

Shapes: R rows read, B features, D hidden width, L tokens of one sequence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mtlplug.errors import MtlplugError
from mtlplug.ragged import Splits
from mtlplug.rows import Row as Row

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mtlplug.data.sources import Source
    from mtlplug.data.tokens import Encode, Encoded
    from mtlplug.scoring import Detail

CONTRACT = 1
"""Version of what this module, `mtlplug.heads`, `ragged`, `schemes`, `spans`, `scoring`, `errors`,
`testing` and the hooks promise to formats.

It is raised when a format that worked no longer would."""

OLDEST_CONTRACT = 1
"""The oldest version that formats may be built for. It follows `CONTRACT` one release later, in
which formats built for older ones work and are warned of."""

LENDS = ("input_embeddings",)
"""Parameters of the encoder that a format may borrow. `input_embeddings`: the vocabulary's, (V, E),
E being D in all families but those that factorise them (ALBERT, small ELECTRA)."""

CHOICES = ("labels", "reads")
"""What an answer may be chosen from, by name: the task's labels; the rows its feature reads."""

IGNORE = -100
"""A target that is not counted, as `torch.nn.functional.cross_entropy` has it."""


@dataclass(frozen=True)
class Task:
    """One dataset in one format.

    Attributes:
        name: what users call it.
        format: code of its format, for example `"SL"`.
        sources: where the rows of each split come from.
        labels: label names in the order of the head's outputs; empty until `prepare`
            where the suite does not name them.
        options: the format's options (`TaskFormat.options`) with this task's values.
        metric: the metric that ranks, where it is not the format's headline.
        role: "pretrain", "target" (unseen; only finetuned on) or "extra" (only when named).
        weight: factor on the task's loss.
        facts: what `TaskFormat.prepare` learnt from the training rows.
        chooses: as its format has it.
    """

    name: str
    format: str
    sources: Mapping[str, Source] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    metric: str | None = None
    role: str = "pretrain"
    weight: float = 1.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    chooses: Sequence[str | int] | None = None

    def option(self, name: str) -> Any:
        """The value of one of the format's options for this task."""
        return self.options[name]


@dataclass(frozen=True)
class Feature:
    """One training example as stored.

    Attributes:
        sequences: what the encoder reads; usually one, several where they travel together
            (the choices of a multiple-choice question).
        reads: token positions whose hidden rows the head gets, counted over the sequences
            laid end to end; shape (R,).
        target: what `TaskFormat.collate` makes tensors of; an integer or float array.
        reference: the gold for `TaskFormat.metrics`, JSON-like; not kept for training splits.
    """

    sequences: tuple[Encoded, ...]
    reads: Sequence[int] | npt.NDArray[np.integer[Any]]
    target: Sequence[int] | Sequence[float] | npt.NDArray[Any]
    reference: Any = None


class TaskFormat(ABC):
    """A way of turning encoder output into predictions. Stateless.

    Class attributes:
        code: short unique name, used in `--groups`.
        title: for people.
        headline: key of `metrics` that ranks a task of this format; higher is better.
        columns: the columns `features` reads from a row; a suite maps a dataset's own names.
        options: names and defaults of what a task may set in its suite.
        version: raise it when `features` changes, so that stored features are built anew.
        independent_rows: whether the features of a row depend on no other row, so that pieces
            of a long split may be given to `features` in several processes. What is counted
            across rows goes through `Encode.count_repeated`; rows are numbered from
            `Encode.first_row` on.
        borrows: parameters of the encoder, out of `LENDS`, that its heads compute with beside
            their own. A head gets them by name at every call, and keeps none of them: they are
            trained, saved and counted once, as the encoder's.
        chooses: what each item of the loss is chosen from, for `--weighting log_num_labels`: out of
            `CHOICES`, or numbers; several where the loss is a sum of several choices, and none
            where nothing is chosen. None: labels, or reads where a task has no labels.
        contract: the version of the contract (`CONTRACT`) that the format was written for.
    """

    code: str
    title: str
    headline: str
    columns: tuple[str, ...] = ()
    options: Mapping[str, Any] = {}
    version: int = 1
    independent_rows: bool = False
    borrows: tuple[str, ...] = ()
    chooses: tuple[str | int, ...] | None = None
    contract: int = 1

    def prepare(self, task: Task, rows: Iterable[Row]) -> dict[str, Any]:
        """Learn from the training rows what must be known before features can be made.

        Returns facts, JSON-like, kept in `Task.facts` and in `run.json`. `{"labels": [...]}`
        sets `Task.labels`. Called on the training split (the first split where there is none).
        """
        return {}

    @abstractmethod
    def features(self, task: Task, rows: Iterable[Row], encode: Encode) -> Iterator[Feature]:
        """Turn rows into features, lazily and in order.

        `encode` tokenises; `encode.count("words cut", 3)` counts what was dropped, cut or
        repaired, which the user sees per task.

        Raises:
            MtlplugError: a row cannot be used; name `row.where` and the column.
        """

    @abstractmethod
    def head(self, task: Task, hidden_size: int) -> nn.Module:
        """A new head: a module called as `head(rows_RD, splits)` which returns scores.

        One that borrows is called as `head(rows_RD, splits, input_embeddings=weights_VE)`.
        Scores are a tensor or a (nested) tuple, list or dict of tensors. Every parameter must
        take part in them, whatever the rows.
        """

    def collate(self, targets: Sequence[npt.NDArray[Any]]) -> Tensor:
        """Join the targets of B features into one tensor; by default laid end to end."""
        return torch.from_numpy(np.concatenate(targets))

    @abstractmethod
    def loss(self, scores: Any, targets: Tensor, splits: Splits) -> Tensor:
        """The loss of each feature, shape (B,): the mean over the feature's counted items.

        Not reduced over features: the core takes the mean over the whole batch, over all ranks
        and micro-batches (`mtlplug.ragged.mean_per_feature` gives the mean over a feature's
        rows). A feature without a counted item has loss zero. Scores arrive as float32.
        """

    @abstractmethod
    def decode(self, task: Task, scores: Any, splits: Splits) -> list[Any]:
        """One prediction per feature, JSON-like. Scores arrive as float32 on the CPU.

        Keep raw scores where predictions of several features are compared later (the windows
        of one long context): normalised ones are not comparable.
        """

    @abstractmethod
    def metrics(
        self, task: Task, predictions: Sequence[Any], references: Sequence[Any]
    ) -> dict[str, float]:
        """Scores of a split, in percent where the field gives percent; holds `headline`."""

    def unlabelled(self, task: Task, row: Row) -> Row:
        """The row as `features` takes it, where its gold is not known. Optional.

        Columns of the gold are filled with anything that `features` accepts, as targets and
        reference are not looked at; columns that can be made of others are made (words of a
        `text`). By default the row as it is.
        """
        return row

    def present(
        self, task: Task, row: Row, features: Sequence[Feature], scores: Any, splits: Splits
    ) -> Any:
        """What a user is shown of the prediction for one row, JSON-like. Optional.

        By default what `decode` gives: one prediction, or a list where there are several features.

        Args:
            task: prepared.
            row: as `unlabelled` gave it.
            features: all that `features` made of it, one or more, as they were encoded.
            scores: of its features, float32 on the CPU, as for `decode`.
            splits: how the rows read belong to its features.
        """
        predictions = self.decode(task, scores, splits)
        return predictions[0] if len(predictions) == 1 else predictions

    def baselines(
        self, task: Task, targets: Sequence[npt.NDArray[Any]], references: Sequence[Any]
    ) -> dict[str, dict[str, float]]:
        """Metrics that need no model, for comparison. Optional.

        Args:
            task: prepared.
            targets: of the training features.
            references: of the split that is scored.

        Returns:
            `"chance"`: answers drawn at random as often as they occur in training;
            `"majority"`: the most frequent one throughout. Either may be left out.
        """
        return {}

    def row_counts(
        self, task: Task, predictions: Sequence[Sequence[Any]], references: Sequence[Sequence[Any]]
    ) -> npt.NDArray[Any] | None:
        """Counts of each row, of whose sums `metrics_of_counts` makes the metrics. Optional.

        What compares two runs draws rows again and again; with counts that takes no time. A
        format whose metrics join features of a row by a name must have them, as a row that is
        drawn twice must count twice.

        Args:
            task: prepared.
            predictions: of the features of each row.
            references: of the features of each row.

        Returns:
            Shape (rows, K); None where the metrics are no function of such sums.
        """
        return None

    def metrics_of_counts(self, task: Task, counts_K: npt.NDArray[Any]) -> dict[str, float]:
        """What `metrics` gives, from the sum of `row_counts` over rows."""
        raise NotImplementedError(f"format {self.code} has row_counts but no metrics_of_counts")

    def detail(
        self, task: Task, predictions: Sequence[Any], references: Sequence[Any]
    ) -> list[Detail]:
        """Tables about what is right and wrong: by label, confusions. Optional."""
        return []

    def wanted_and_given(
        self, task: Task, predictions: Sequence[Any], references: Sequence[Any]
    ) -> tuple[str, str]:
        """The gold of one row and what was predicted, for people; equal where all is right.

        Args:
            task: prepared.
            predictions: of the row's features.
            references: of the row's features.
        """
        return str(list(references)), str(list(predictions))

    def export(self, task: Task, head: nn.Module, encoder: PreTrainedModel) -> PreTrainedModel:
        """A stock transformers model with equal scores. Optional.

        Raises:
            MtlplugError: the format, or this family of encoders, has no stock class.
        """
        raise MtlplugError(f"format {self.code} has no stock transformers class to export to")
