"""CRF: sequence labelling with a linear-chain conditional random field.

Lafferty et al. (2001), as Lample et al. (2016), section 2.1, put it on an encoder: the score of
labels y is the sum of emissions e[t, y_t] and transitions A[y_t-1, y_t], with a start and an end,
and log p(y) = score(y) - log Z. Everything else is format SL's. Shapes: R words, B features,
K labels.
"""

import torch
from mtlplug_sl import SequenceLabelling
from torch import nn

import mtlplug
from mtlplug.formats import IGNORE, TaskFormat
from mtlplug.heads import TokenHead
from mtlplug.ragged import row_counts, split, sum_per_feature


class ConditionalRandomField(SequenceLabelling):
    """Format SL with labels that depend on each other."""

    code, title = "CRF", "sequence labelling with a CRF"

    def head(self, task, hidden_size):
        """One linear layer, and the transitions."""
        return Chain(hidden_size, len(task.labels))

    def loss(self, scores, targets, splits):
        """-log p of each sentence's labels by its counted words. *Shape:* ..., (R,) -> (B,).

        Words that are not counted may have any label: p is that of all paths through the others.
        """
        emissions_RK, *transitions = scores
        counted_R = targets != IGNORE
        labels_RK = torch.arange(emissions_RK.shape[1], device=targets.device)[None]
        wrong_RK = counted_R[:, None] & (labels_RK != targets[:, None])
        gold_B = log_partition(emissions_RK.masked_fill(wrong_RK, -torch.inf), transitions, splits)
        all_B = log_partition(emissions_RK, transitions, splits)
        words_B = sum_per_feature(counted_R.float(), splits)
        return (all_B - gold_B).where(words_B > 0, 0.0) / words_B.clamp(min=1)

    def decode(self, task, scores, splits):
        """The names of the best path's labels."""
        emissions_RK, *transitions = scores
        paths = [best_path(each, *transitions) for each in split(emissions_RK, splits)]
        return [[task.labels[number] for number in path] for path in paths]

    export = TaskFormat.export  # transformers has no stock class
    present = TaskFormat.present  # a label has no probability of its own


class Chain(nn.Module):
    """Emissions (R, K), and for all sentences transitions (K, K), starts (K,) and ends (K,)."""

    def __init__(self, hidden_size, labels):
        super().__init__()
        self.emissions = TokenHead(hidden_size, labels)
        self.transitions = nn.Parameter(torch.zeros(labels + 2, labels))

    def forward(self, rows_RD, splits):
        """All scores: of rows and of the chain."""
        moves, start, end = self.transitions.split([self.transitions.shape[1], 1, 1])
        return self.emissions(rows_RD, splits), moves, start[0], end[0]


def log_partition(emissions_RK, transitions, splits):
    """log Z by the forward algorithm, all sentences at once. *Shape:* (R, K) -> (B,)."""
    moves_KK, start_K, end_K = transitions
    sizes_B = row_counts(splits)
    last = len(emissions_RK)  # one row more, which sentences without words look at
    emissions_RK = torch.cat([emissions_RK, torch.zeros_like(moves_KK[:1])])
    alpha_BK = start_K + emissions_RK[splits.starts_B]
    for place in range(1, max(splits.sizes)):
        rows_B = (splits.starts_B + place).clamp(max=last)
        longer_BKK = alpha_BK[:, :, None] + moves_KK
        longer_BK = longer_BKK.logsumexp(1) + emissions_RK[rows_B]
        alpha_BK = torch.where((place < sizes_B)[:, None], longer_BK, alpha_BK)
    return (alpha_BK + end_K).logsumexp(-1)


def best_path(emissions_NK, moves_KK, start_K, end_K):
    """The labels of the highest score (Viterbi, 1967). *Shape:* (N, K) -> N numbers."""
    if not len(emissions_NK):
        return []
    best_K, before = start_K + emissions_NK[0], []
    for emissions_K in emissions_NK[1:]:
        best_K, came_K = (best_K[:, None] + moves_KK).max(0)
        best_K = best_K + emissions_K
        before.append(came_K)
    path = [int((best_K + end_K).argmax())]
    for came_K in reversed(before):
        path.append(int(came_K[path[-1]]))
    return path[::-1]


@mtlplug.hookimpl
def mtlplug_task_formats():
    """Called by mtlplug when it starts."""
    return [ConditionalRandomField()]
