"""Results of a study made from a few scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtlplug.study.results import BASELINE, DONE, FAILED, Column, Results, Target, Trial

Scores = Mapping[tuple[str, str], Sequence[float | None]]


def results_of(
    scores: Scores,
    groups: Mapping[str, str] | None = None,
    columns: Sequence[Column] | None = None,
    price: float | None = None,
) -> Results:
    """A study with one rate.

    Args:
        scores: by (target, column) one for each seed; None for a run that failed.
        groups: of targets; by default all are of one.
        columns: by default those of the scores, all done.
        price: of an hour.
    """
    names = dict.fromkeys([BASELINE, *(column for _, column in scores)])
    seeds = range(1, 1 + max(len(each) for each in scores.values()))
    return Results(
        suite="small",
        title="small_study",
        model="an encoder",
        columns=tuple(columns or (Column(name) for name in names)),
        targets=tuple(
            Target(name, (groups or {}).get(name, "G"), "F1", chance=10.0, majority=20.0)
            for name in dict.fromkeys(target for target, _ in scores)
        ),
        trials=tuple(
            Trial(column, target, 1e-4, seed, FAILED if score is None else DONE, score)
            for (target, column), row in scores.items()
            for seed, score in zip(seeds, row, strict=False)
        ),
        rates=(1e-4,),
        seeds=tuple(seeds),
        price=price,
    )
