"""The validation loss of any tool's model, by mtlplug's definition, on the same features.

Loss of a feature: mean cross entropy over its items (SL: the words; C: one; QA: start and end,
each over the first token and the context's). Loss of a task: mean over its features. What is
compared is the mean over the tasks.

Shapes: B features, L tokens of the longest, K labels, R positions read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

IGNORE = -100
BATCH = 32

Logits = Callable[[str, Tensor, Tensor, Tensor], Tensor]
"""Task name, ids (B, L), token types (B, L), mask (B, L) -> scores (B, L, K), for C (B, K)."""


def padded(sequences: Sequence[Sequence[int]], value: int) -> Tensor:
    """Sequences laid out to the longest. *Shape:* -> (B, L)."""
    longest = max(map(len, sequences))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in sequences])


def feature_loss(code: str, scores: Tensor, reads: Sequence[int], target: Sequence[int]) -> Tensor:
    """The loss of one feature. *Shape:* scores (L, K), for C (K,) -> ()."""
    wanted = torch.tensor(target)
    if code == "C":
        return cross_entropy(scores[None], wanted)
    scores_RK = scores[list(reads)]
    if code == "SL":
        losses_R = cross_entropy(scores_RK, wanted, ignore_index=IGNORE, reduction="none")
        return losses_R.sum() / max(1, int((wanted != IGNORE).sum()))
    if code == "QA":
        ends = cross_entropy(scores_RK.T, wanted, ignore_index=IGNORE, reduction="none")
        return ends.mean()
    raise ValueError(f"no loss is defined for format {code}")


@torch.no_grad()
def validation_losses(
    tasks: Sequence[Mapping[str, Any]], features: Sequence[Mapping[str, Any]], logits: Logits
) -> dict[str, float]:
    """The mean loss of each task over its validation features.

    Args:
        tasks: name and format of each.
        features: `task`, `ids`, `types`, `reads` and `target` of each.
        logits: the model, in evaluation mode.
    """
    means = {}
    for task in tasks:
        mine = [feature for feature in features if feature["task"] == task["name"]]
        mine.sort(key=lambda feature: len(feature["ids"]))
        losses: list[float] = []
        for first in range(0, len(mine), BATCH):
            part = mine[first : first + BATCH]
            ids_BL = padded([feature["ids"] for feature in part], 0)
            types_BL = padded([feature["types"] for feature in part], 0)
            mask_BL = padded([[1] * len(feature["ids"]) for feature in part], 0)
            scores = logits(task["name"], ids_BL, types_BL, mask_BL).float()
            losses += [
                float(feature_loss(task["format"], row, feature["reads"], feature["target"]))
                for row, feature in zip(scores, part, strict=True)
            ]
        means[task["name"]] = sum(losses) / len(losses)
    return means
