"""What a study says, in a few plain sentences computed from its figures.

No sentence says more than its test: what cannot be told apart is not called equal, and where
seeds or targets are too few, that is said instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from mtlplug.pages.wording import duration, listing, plural, signed
from mtlplug.study.aggregates import Grid, averages, grid_of, groups_of, shared_targets
from mtlplug.study.results import BASELINE, Results
from mtlplug.study.statistics import SIGNIFICANT, Comparison, compare, differs, holm, targets_needed


class Study:
    """Results with the figures that several sentences and charts need.

    Attributes:
        results: of the study.
        grid: mean, deviation and verdict by (target, column).
        shared: targets that every column with scores has.
        means: average over the shared targets, by column.
        gains: every column but the baseline against it, over the shared targets.
        ps: of these comparisons, corrected for their number.
    """

    def __init__(self, results: Results) -> None:
        self.results = results
        self.grid: Grid = grid_of(results)
        names = [column.name for column in results.columns]
        targets = [target.name for target in results.targets]
        self.shared: Sequence[str] = shared_targets(self.grid, targets, names)
        self.means = {
            name: summary.mean for name, summary in averages(self.grid, targets, names).items()
        }
        others = [name for name in self.means if name != BASELINE and BASELINE in self.means]
        self.gains = {name: self.versus(name, BASELINE) for name in others}
        self.ps = holm({name: each.p for name, each in self.gains.items() if each.p is not None})

    def versus(self, first: str, second: str) -> Comparison:
        """Two columns over the shared targets."""
        return compare(
            *([self.grid[row, name].mean for row in self.shared] for name in (first, second))
        )

    def seconds(self, name: str) -> float | None:
        """What the pre-finetuning of a column took."""
        return next(each.seconds for each in self.results.columns if each.name == name)


def findings(study: Study) -> list[str]:
    """One to five sentences, the most important one first."""
    if not study.grid:
        return ["No finetuning run has been finished yet, so there is nothing to say."]
    sentences = [_best(study), _cheapest(study), _related(study), _cells(study), _caveat(study)]
    return [sentence for sentence in sentences if sentence]


def _best(study: Study) -> str:
    """Which column is best on average, and whether that can be told from the baseline."""
    if not study.means:
        return "No target has a score with every encoder yet, so averages cannot be compared."
    where = f"On average over {plural(len(study.shared), 'target')}"
    if not study.gains:
        only = next(iter(study.means))
        return (
            f"{where}, {only} scores {study.means[only]:.1f}; there is nothing to compare it with."
        )
    best = max(study.gains, key=lambda name: (study.means[name], -(study.seconds(name) or 0.0)))
    gain = study.gains[best]
    span = ""
    if gain.interval:
        span = f", 95 % interval {signed(gain.interval.low)} to {signed(gain.interval.high)}"
    figures = (
        f"{study.means[best]:.1f} against {study.means[BASELINE]:.1f} "
        f"({signed(gain.difference)} points{span}; better on {gain.better} of {gain.targets})"
    )
    if gain.difference <= 0:
        head = f"{where} no encoder scores above the baseline; {best} comes closest: {figures}."
    else:
        head = f"{where}, {best} scores best: {figures}."
    if len(study.shared) == 1:
        return f"{head} {_on_one_target(study, best)}"
    return f"{head} {_verdict(gain, study.ps.get(best), len(study.ps))}"


def _on_one_target(study: Study, best: str) -> str:
    """Where there are no targets to test over, what the seeds say."""
    differs = study.grid[study.shared[0], best].differs
    if differs is None:
        return "Too few seeds, or scores that are all the same, cannot say more."
    can = "can" if differs else "cannot"
    return (
        f"By the spread over seeds it {can} be told from the baseline (Welch's 95 % interval); "
        "that says nothing of other targets."
    )


def _verdict(gain: Comparison, p: float | None, tests: int) -> str:
    """Whether a comparison over targets can be told from chance."""
    if p is not None and p < SIGNIFICANT:
        return f"That difference can be told from chance ({_how(p, tests)})."
    if p is None:
        return "They are equal on each target."
    if not gain.can_tell(tests):
        return f"Whether that is more than chance cannot be told: {_few(tests)}."
    return f"That difference cannot be told from chance ({_how(p, tests)})."


def _how(p: float, tests: int) -> str:
    corrected = f" after correction for {tests} comparisons" if tests > 1 else ""
    return f"signed-rank test, p = {p:.2g}{corrected}"


def _few(tests: int) -> str:
    """Why a test could not have succeeded."""
    corrected = f" corrected for {tests} comparisons" if tests > 1 else ""
    return (
        f"fewer than {targets_needed(tests)} targets differ, too few for a signed-rank test"
        + corrected
    )


def _cheapest(study: Study) -> str:
    """The cheapest column that the test cannot tell from the best."""
    timed = {name: seconds for name in study.gains if (seconds := study.seconds(name)) is not None}
    if len(timed) < 2:
        return ""
    best = max(timed, key=lambda name: (study.means[name], -timed[name]))
    against = {name: study.versus(best, name) for name in timed if name != best}
    cheaper = [name for name in against if timed[name] < timed[best]]
    if not cheaper:
        return f"{best} is also the cheapest to pre-finetune: {duration(timed[best])}."
    ps = holm({name: 1.0 if (p := against[name].p) is None else p for name in cheaper})
    within = [name for name in cheaper if ps[name] >= SIGNIFICANT]
    if not within:
        return f"Every encoder cheaper than {best} can be told to be worse."
    if not all(against[name].can_tell(len(cheaper)) for name in within):
        few = _few(len(cheaper))
        return f"Whether a cheaper encoder would do as well as {best} cannot be told: {few}."
    least = min(within, key=lambda name: timed[name])
    return (
        f"The cheapest encoder that cannot be told from it is {least}: {duration(timed[least])} of "
        f"pre-finetuning against {duration(timed[best])}, {signed(-against[least].difference)} "
        f"points ({_how(ps[least], len(cheaper))}); that is not proof that they are equal."
    )


def _related(study: Study) -> str:
    """For which groups the column of that group alone gains something that no wider one beats."""
    parts, unknown = [], 0
    for group, targets in groups_of(study.results).items():
        verdicts = [_suffices(study, group, target) for target in targets]
        known = [each for each in verdicts if each is not None]
        unknown += len(verdicts) - len(known)
        if known:
            parts.append(f"{sum(known)} of {plural(len(known), f'{group} target')}")
    if not parts:
        return ""
    sentence = (
        f"On {listing(parts)}, pre-finetuning on the target's own group suffices: it is above the "
        "baseline, and no other encoder is distinguishably better."
    )
    return sentence + (f" On {unknown} more that cannot be said." if unknown else "")


def _suffices(study: Study, group: str, target: str) -> bool | None:
    """Whether the group's own column is above the baseline on a target, and no other one is
    distinguishably better.
    """
    names = [name for row, name in study.grid if row == target and name not in (group, BASELINE)]
    if (target, group) not in study.grid or not names:
        return None
    own, baseline = study.grid[target, group].mean, study.grid.get((target, BASELINE))
    if baseline is not None and own <= baseline.mean:
        return False
    scores = study.results.scores
    # The highest mean need not be the one that can be told from the group's own.
    told = [
        differs(scores(target, name), scores(target, group))
        for name in names
        if study.grid[target, name].mean > own
    ]
    if True in told:
        return False
    return None if None in told else True


def _cells(study: Study) -> str:
    """How many cells are above and below the baseline."""
    told, unknown = [], 0
    for (target, column), cell in study.grid.items():
        baseline = study.grid.get((target, BASELINE))
        if column == BASELINE or baseline is None:
            continue
        unknown += cell.differs is None
        if cell.differs is not None:
            told.append((cell.differs, cell.mean - baseline.mean, f"{target} with {column}"))
    if not told:
        return ""
    above = sum(each and difference > 0 for each, difference, _ in told)
    losses = [(difference, name) for each, difference, name in told if each and difference < 0]
    worst = f" (most: {min(losses)[1]}, {signed(min(losses)[0])})" if losses else ""
    by_chance = round(len(told) / 20)
    chance = f"about {by_chance}" if by_chance else "less than one"
    return (
        f"Cell by cell, {above} of {len(told)} are distinguishably above the baseline and "
        f"{len(losses)} below it{worst}; {chance} would be by chance alone."
        + (f" {unknown} more cannot be judged." if unknown else "")
    )


def _caveat(study: Study) -> str:
    """What to keep in mind: few seeds, unfinished cells, targets nobody has learned."""
    results, said = study.results, []
    cells = len(results.targets) * len(results.columns)
    short = cells - sum(cell.complete for cell in study.grid.values())
    if len(results.seeds) == 1:
        said.append("With one seed a cell, chance is not known: read differences as hints.")
    if short:
        said.append(f"{short} of {plural(cells, 'cell')} are unfinished or failed in part.")
    flat = [each.name for each in results.targets if _flat(study, each.name, each.majority)]
    if flat:
        said.append(f"No encoder beats the most frequent answer on {listing(flat)}.")
    return " ".join(said)


def _flat(study: Study, target: str, majority: float | None) -> bool:
    """Whether no column does better than always giving the most frequent answer."""
    means = [cell.mean for (row, _), cell in study.grid.items() if row == target]
    return majority is not None and bool(means) and max(means) <= majority
