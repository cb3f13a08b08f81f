"""Two runs on the same rows: a paired bootstrap over rows.

Efron and Tibshirani (1993), chapter 16; Koehn (2004) for comparing systems. Rows are drawn with
replacement, the same ones for both; the features of a row (the windows of a long context) stay
together. Shapes: N rows, B draws, K counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mtlplug.errors import MtlplugError
from mtlplug.results.evaluate import Evaluation

DRAWS, SEED = 2000, 0

SLOW_DRAWS = 200
"""Draws where the metrics must be computed anew for each."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """How far one run is from another in a metric.

    Attributes:
        metric: its name.
        ours, theirs: scores on all rows.
        difference: ours minus theirs.
        low, high: 95 % interval of the difference, by percentiles.
        p: two-sided: how often draws centred at no difference are as far from it as the one
            found (with one added to both counts, so that it is never 0).
        draws: resamples.
    """

    metric: str
    ours: float
    theirs: float
    difference: float
    low: float
    high: float
    p: float
    draws: int

    def as_dict(self) -> dict[str, Any]:
        """As JSON-like values."""
        return asdict(self)


def compare(ours: Evaluation, theirs: Evaluation, seed: int = SEED) -> list[Difference]:
    """The differences of all metrics that both have.

    Raises:
        MtlplugError: the evaluations are of different rows.
    """
    _check_same(ours, theirs)
    fast = ours.counts_NK is not None and theirs.counts_NK is not None
    draws = DRAWS if fast else SLOW_DRAWS
    size = len(ours.rows)
    drawn_BN = np.random.default_rng(seed).integers(size, size=(draws, size))
    metrics = [name for name in ours.metrics_of(range(size)) if name in theirs.metrics]
    sampled = [_sampled(each, drawn_BN, metrics) for each in (ours, theirs)]
    found = []
    for place, name in enumerate(metrics):
        mine, other = ours.metrics[name], theirs.metrics[name]
        differences_B = sampled[0][:, place] - sampled[1][:, place]
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(differences_B, [tail, 1 - tail])
        far = np.abs(differences_B - (mine - other)) >= abs(mine - other) - 1e-12
        p = (int(far.sum()) + 1) / (draws + 1)
        found.append(Difference(name, mine, other, mine - other, float(low), float(high), p, draws))
    return found


def _check_same(ours: Evaluation, theirs: Evaluation) -> None:
    mine, other = ([row.where for row in each.rows] for each in (ours, theirs))
    if ours.format.code != theirs.format.code:
        raise MtlplugError(
            f"task '{ours.task.name}' is of format {ours.format.code} in {ours.folder} and of "
            f"{theirs.format.code} in {theirs.folder}; only runs on the same task are compared"
        )
    if mine != other:
        raise MtlplugError(
            f"{ours.folder} is scored on {len(mine)} rows of task '{ours.task.name}' and "
            f"{theirs.folder} on {len(other)}, which are not the same; score all rows of both "
            "with --all-rows"
        )


def _sampled(
    evaluation: Evaluation, drawn_BN: npt.NDArray[np.int64], metrics: Sequence[str]
) -> npt.NDArray[np.float64]:
    """The metrics of each draw. *Shape:* (B, metrics)."""
    counts_NK = evaluation.counts_NK
    if counts_NK is None:
        scores = [evaluation.metrics_of(drawn_N) for drawn_N in drawn_BN]
        return np.array([[each[name] for name in metrics] for each in scores])
    kept = np.flatnonzero(counts_NK.any(0))  # most cells of a large confusion matrix are empty
    filled_Nk = counts_NK[:, kept].astype(np.float64)
    sums_K = np.zeros(counts_NK.shape[1])
    found = []
    for drawn_N in drawn_BN:
        sums_K[kept] = np.bincount(drawn_N, minlength=len(filled_Nk)) @ filled_Nk
        scored = evaluation.format.metrics_of_counts(evaluation.task, sums_K)
        found.append([scored[name] for name in metrics])
    return np.array(found)
