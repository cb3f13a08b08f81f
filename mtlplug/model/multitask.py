"""One shared encoder and one head per task, in one forward pass over a mixed micro-batch.

Shapes: T tokens, D hidden width, R rows of one head, B features of one task.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from mtlplug.batching.micro_batch import MicroBatch, TaskRows
from mtlplug.errors import MtlplugError
from mtlplug.formats import Task, TaskFormat
from mtlplug.heads import StockHead
from mtlplug.model.encoder import Encoder
from mtlplug.model.joined import Joined, is_floating, take_apart
from mtlplug.ragged import Splits, row_counts


@dataclass(frozen=True)
class Output:
    """What a forward pass gives.

    Attributes:
        loss: the micro-batch's share in the mean loss of the batch, 0-dimensional.
        losses: for each task present the loss of each of its features, (B,), detached.
        scores: for each task present what its head gave, float32, detached.
    """

    loss: Tensor
    losses: Mapping[int, Tensor]
    scores: Mapping[int, Any]


class MultiTaskModel(nn.Module):
    """The encoder, the heads and their losses.

    Args:
        encoder: the shared encoder.
        tasks: the tasks, prepared; their order is the order of the heads.
        formats: the format of each task.
        read_counts: for each task the number of rows some feature of it reads; a head without
            rows in a micro-batch runs on that many rows of zeros, where it must run.
        weighting: gives each feature the loss that counts (`mtlplug.model.weighting`); None: the
            format's.

    Attributes:
        run_absent_heads: run heads without rows too; otherwise they only get a gradient of zero.
    """

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[Task],
        formats: Sequence[TaskFormat],
        read_counts: Sequence[int],
        weighting: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.tasks = tuple(tasks)
        self.formats = tuple(formats)
        self.read_counts = tuple(read_counts)
        self.run_absent_heads = True
        self.heads = nn.ModuleList(
            task_format.head(task, encoder.hidden_size)
            for task, task_format in zip(tasks, formats, strict=True)
        )
        for part in self.heads.modules():
            if isinstance(part, StockHead):
                part.suit(encoder.model.config)
        self.weighting = weighting
        # In dicts torch does not look for them: they stay the encoder's alone.
        self._borrowed = tuple(encoder.lent(each.borrows) for each in formats)

    def loans(self) -> Iterator[tuple[nn.Module, nn.Parameter]]:
        """Heads, and parameters of the encoder that they compute with."""
        for head, borrowed in zip(self.heads, self._borrowed, strict=True):
            for parameter in borrowed.values():
                yield head, parameter

    def forward(self, batch: MicroBatch) -> Output:
        """Run the encoder once, then the heads in one fixed order.

        Every head gets a gradient on every rank in every pass: without one on this rank alone
        ZeRO reduces the wrong pieces together without an error. ZeRO-2 reduces in the order of
        the backward pass, and ZeRO-3 gathers weights in every pass, in evaluation too: there
        every head runs, and its loss hangs on that of the head before. Were all of them ready at
        once, parameters of one layer would come in an order that depends on how many there are.
        """
        hidden_TD = self.encoder(batch.stream)
        zero = self._no_loss(batch, hidden_TD)
        joined_B = zero.new_zeros(0)
        losses: dict[int, Tensor] = {}
        scores: dict[int, Any] = {}
        hidden = batch.rows.of_tokens(hidden_TD)
        for number in range(len(self.heads)):
            rows = batch.tasks.get(number)
            if rows is None:
                if self.run_absent_heads:
                    joined_B = joined_B + self._absent(number, hidden_TD)
                continue
            scores[number] = self._scores(number, hidden[number], rows.splits)
            losses[number] = self._losses(number, scores[number], rows)
            if self.run_absent_heads:
                joined_B = torch.cat([joined_B, losses[number]])
        if not self.run_absent_heads:
            joined_B = torch.cat([*losses.values()])
        if self.weighting:
            # After all heads, so that its gradient comes first on every rank.
            joined_B = self._weighted(self.weighting, joined_B, losses, batch)
        return Output(
            zero + (joined_B * batch.rows.weights_B).sum(),
            {number: each.detach() for number, each in losses.items()},
            {number: tree_map(_detached, each) for number, each in scores.items()},
        )

    def _scores(self, number: int, rows_RD: Tensor, splits: Splits) -> Any:
        """What a head gives, float32, whether or not the engine has it joined on its way."""
        found = self.heads[number](rows_RD, splits, **self._borrowed[number])
        return take_apart(found) if isinstance(found, Joined) else tree_map(_float, found)

    def _losses(self, number: int, scores: Any, rows: TaskRows) -> Tensor:
        losses_B = self.formats[number].loss(scores, rows.targets, rows.splits)
        if losses_B.shape != (len(rows.splits),):
            raise MtlplugError(
                f"format {self.formats[number].code} returned losses of shape "
                f"{tuple(losses_B.shape)} for {len(rows.splits)} features of task "
                f"'{self.tasks[number].name}'; a format's loss is one number per feature"
            )
        return losses_B.float()

    def _weighted(
        self, weighting: nn.Module, losses_B: Tensor, tasks: Iterable[int], batch: MicroBatch
    ) -> Tensor:
        """The losses that count, (B,)."""
        splits = {number: batch.tasks[number].splits for number in tasks}
        # One tensor, whatever the tasks: ZeRO-3 counts what a gradient passes on its way.
        weighted_B: Tensor = weighting(
            losses_B,
            torch.cat([each.starts_B.new_full((len(each),), n) for n, each in splits.items()]),
            torch.cat([row_counts(each) for each in splits.values()]),
        )
        if weighted_B.shape != losses_B.shape:
            raise MtlplugError(
                f"loss weighting {type(weighting).__name__} returned losses of shape "
                f"{tuple(weighted_B.shape)} for {len(losses_B)} features; it should be one each"
            )
        return weighted_B.float()

    def _no_loss(self, batch: MicroBatch, hidden_TD: Tensor) -> Tensor:
        """A zero; where absent heads do not run it gives all of their parameters a gradient of
        zero: one node, as of hundreds of tasks a micro-batch may lack most.
        """
        zero = hidden_TD.new_zeros((), dtype=torch.float32)
        if self.run_absent_heads:
            return zero
        absent = [head for number, head in enumerate(self.heads) if number not in batch.tasks]
        parameters = itertools.chain.from_iterable(head.parameters() for head in absent)
        given: Tensor = _NoLoss.apply(zero, *parameters)  # type: ignore[no-untyped-call]
        return given

    def _absent(self, number: int, hidden_TD: Tensor) -> Tensor:
        """An exact zero that still gives every parameter of the head a gradient of zero."""
        count = self.read_counts[number]
        # ZeRO-3 counts the modules that a gradient passes through, so one must pass here too.
        rows_RD = hidden_TD.new_zeros((count, hidden_TD.shape[1]), requires_grad=True)
        splits = Splits.of([count]).to(hidden_TD.device)
        scores = self._scores(number, rows_RD, splits)
        # A head may mask with -inf, and -inf times zero is no zero.
        sums = [leaf.float().nan_to_num(0.0, 0.0, 0.0).sum() for leaf in _tensors(scores)]
        return torch.stack(sums).sum() * 0.0


class _NoLoss(torch.autograd.Function):
    """Passes on a zero that gives each parameter a gradient of zero."""

    @staticmethod
    def forward(ctx: Any, zero: Tensor, *parameters: Tensor) -> Tensor:
        """The zero."""
        ctx.save_for_backward(*parameters)
        return zero.clone()

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Zeros in the shapes of the parameters."""
        return None, *map(torch.zeros_like, ctx.saved_tensors)


def _tensors(scores: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(scores) if isinstance(leaf, Tensor)]


def _float(leaf: Any) -> Any:
    return leaf.float() if is_floating(leaf) else leaf


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, Tensor) else leaf
