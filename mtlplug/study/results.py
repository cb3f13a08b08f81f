"""What a study found: its columns, its targets and every finetuning run, as plain values.

Tables, statistics and the report page are made of this alone; `results.json` is the same as a file.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

BASELINE = "baseline"
"""The column whose encoder was not pre-finetuned."""

DONE, FAILED, MISSING = "done", "failed", "missing"


@dataclass(frozen=True)
class Column:
    """One encoder: the baseline, or pre-finetuned on one combination of groups.

    Attributes:
        name: "baseline", or the groups: "SL", "SL+C".
        state: "done", "failed" or "missing".
        cell: name of the cell that made it; empty for the baseline.
        seconds: its training took, evaluation included; 0 for the baseline, None where unknown.
        seconds_per_epoch: of training, as in the paper's appendix B.3.
        epochs: until the stopping rule.
        tokens: trained on, in all.
        scores: by pre-finetuning task its validation score.
        curve: by epoch, for example `{"epoch": 1, "loss": 0.7}`: mean validation loss.
        command: that makes this encoder alone.
        error: why it failed.
    """

    name: str
    state: str = DONE
    cell: str = ""
    seconds: float | None = None
    seconds_per_epoch: float | None = None
    epochs: int | None = None
    tokens: int | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    curve: Sequence[Mapping[str, float]] = ()
    command: str = ""
    error: str = ""


@dataclass(frozen=True)
class Target:
    """One unseen task that every encoder is finetuned on.

    Attributes:
        name: of the task.
        group: code of its format.
        metric: that is reported, in percent, higher is better.
        train: rows to finetune on.
        valid: rows that are scored.
        chance: score of answers drawn at random as often as they occur in training; None where
            the format has no such thing.
        majority: score of the answer most frequent in training, given always.
        note: what a reader must know of it, for example that its data is partial.
    """

    name: str
    group: str
    metric: str
    train: int | None = None
    valid: int | None = None
    chance: float | None = None
    majority: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Trial:
    """One finetuning run: an encoder, a target, a learning rate and a seed.

    Attributes:
        column, target: their names.
        rate: peak learning rate.
        seed: of the new head, the order of examples and dropout.
        state: "done", "failed" or "missing".
        score: on the validation split, of the best epoch; None unless done.
        loss: mean validation loss of that epoch.
        epochs: until the stopping rule.
        seconds: the run took.
        cell: its name in the ledger.
        curve: by epoch, for example `{"epoch": 1, "loss": 0.7, "score": 81.2}`.
        command: that repeats it alone.
        error: why it failed.
    """

    column: str
    target: str
    rate: float
    seed: int
    state: str = DONE
    score: float | None = None
    loss: float | None = None
    epochs: int | None = None
    seconds: float | None = None
    cell: str = ""
    curve: Sequence[Mapping[str, float]] = ()
    command: str = ""
    error: str = ""


@dataclass(frozen=True)
class Results:
    """All of a study.

    Attributes:
        suite: its name.
        title: for people.
        model: the encoder everything starts from.
        columns: the baseline first, then from few groups to many.
        targets: in the suite's order, those of a group together.
        trials: every finetuning run planned so far.
        rates: learning rates of the sweep.
        seeds: the first one is the sweep's, too.
        price: of an hour of the machine; None where not given.
        facts: what else is worth keeping: machine, versions, options, commands.
    """

    suite: str
    title: str
    model: str
    columns: tuple[Column, ...]
    targets: tuple[Target, ...]
    trials: tuple[Trial, ...]
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    price: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def of(self, target: str, column: str) -> list[Trial]:
        """The trials of a target with an encoder."""
        return self._of.get((target, column), [])

    @cached_property
    def _of(self) -> dict[tuple[str, str], list[Trial]]:
        found: dict[tuple[str, str], list[Trial]] = {}
        for each in self.trials:
            found.setdefault((each.target, each.column), []).append(each)
        return found

    def chosen_rate(self, target: str, column: str) -> float | None:
        """The rate whose sweep run scored best on validation; None before the sweep is through.

        Of equal scores the one with the lower validation loss. Failed runs are passed over, as
        long as one rate worked.
        """
        sweep = [each for each in self.of(target, column) if each.seed == self.seeds[0]]
        if {each.rate for each in sweep if each.state != MISSING} < set(self.rates):
            return None
        return best_rate(sweep)

    def scores(self, target: str, column: str) -> list[float]:
        """Scores at the chosen rate, by seed; failed and missing runs are left out."""
        rate = self.chosen_rate(target, column)
        found = {each.seed: each.score for each in self.of(target, column) if each.rate == rate}
        scores = [found.get(seed) for seed in self.seeds]
        return [score for score in scores if score is not None]

    def complete(self, target: str, column: str) -> bool:
        """Whether every seed has a score."""
        return len(self.scores(target, column)) == len(self.seeds)

    def as_dict(self) -> dict[str, Any]:
        """As JSON-like values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Results:
        """From `as_dict()`, read back from JSON."""
        return cls(
            **{
                **values,
                "columns": tuple(Column(**each) for each in values["columns"]),
                "targets": tuple(Target(**each) for each in values["targets"]),
                "trials": tuple(Trial(**each) for each in values["trials"]),
                "rates": tuple(values["rates"]),
                "seeds": tuple(values["seeds"]),
            }
        )


def best_rate(sweep: Sequence[Trial]) -> float | None:
    """The rate of the best run: highest score, then lowest loss; None where none was finished."""
    done = [(-each.score, each.loss or 0.0, each.rate) for each in sweep if each.score is not None]
    return min(done)[2] if done else None


def mean_and_deviation(scores: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and standard deviation of the sample (n - 1); None for a single score.

    Raises:
        statistics.StatisticsError: there is no score.
    """
    deviation = statistics.stdev(scores) if len(scores) > 1 else None
    return statistics.fmean(scores), deviation
