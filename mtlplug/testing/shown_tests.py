"""Tests of what a format tells row by row: to people, and to what compares runs."""

from __future__ import annotations

import json
import unittest
from collections.abc import Sequence
from typing import Any

from mtlplug.formats import Feature, Row, TaskFormat
from mtlplug.testing import trials
from mtlplug.testing.base import Contract
from mtlplug.testing.failures import no_fault, require
from mtlplug.testing.specimen import outcome, packed

ROUNDING = 1e-6


class ShownTests(Contract):
    """Rows and scores in, what `mtlplug predict`, `evaluate` and `--compare` say out."""

    def test_rows_without_gold_are_read(self) -> None:
        """`unlabelled` makes rows of which the gold is missing ones that give the same reads."""
        self._skip_without("unlabelled")
        specimen = self.specimen
        task = specimen.data.task
        placed = specimen.placed()
        with no_fault("unlabelled", "return row | {...}, with anything in the gold's columns"):
            filled = [self.format.unlabelled(task, row) for row in placed]
        gold = {
            column
            for row, made in zip(placed, filled, strict=True)
            for column in row
            if made.get(column) != row[column]
        } or {*self.format.columns[-1:]}
        for row in placed:
            theirs = specimen.features([row])
            bare = Row({key: row[key] for key in row if key not in gold}, row.where)
            with no_fault(
                f"{row.where} without {', '.join(sorted(gold))}",
                "let unlabelled fill them with anything that features() accepts",
            ):
                ours = specimen.features([self.format.unlabelled(task, bare)])
            require(
                not theirs or [*map(_read, ours)] == [*map(_read, theirs)],
                f"{row.where} gives other tokens or reads where its gold is not known",
                "leave all columns but the gold's as they are in unlabelled",
            )

    def test_predictions_are_shown(self) -> None:
        """`present` gives for every row what JSON can hold, which is what users get."""
        specimen = self.specimen
        task, model = specimen.data.task, specimen.model()
        for row in specimen.placed():
            row = self.format.unlabelled(task, row)
            features = specimen.features([row])
            if not features:
                continue
            batch = packed(specimen.stored(features))
            scores, splits = model(batch).scores[0], batch.tasks[0].splits
            with no_fault(
                f"what is shown of {row.where}",
                "return texts, numbers that are no NaN, lists and dicts: .tolist(), float(...)",
            ):
                shown = self.format.present(task, row, features, scores, splits)
                json.dumps(shown, allow_nan=False)

    def test_counts_of_rows_give_the_metrics(self) -> None:
        """`metrics_of_counts` of the summed counts is `metrics`, of all rows and of some."""
        self._skip_without("row_counts")
        data, rows = self.specimen.data, self._by_row()
        theirs, ours = [[p for p, _ in row] for row in rows], [[r for _, r in row] for row in rows]
        remedy = "return an array of shape (rows, K), whose sums give the metrics"
        with no_fault("row_counts", remedy):
            counts = self.format.row_counts(data.task, theirs, ours)
        require(
            counts is not None and counts.ndim == 2 and len(counts) == len(rows),
            f"the counts of {len(rows)} rows have the shape {getattr(counts, 'shape', None)}",
            remedy,
        )
        assert counts is not None
        for step in (1, 2):
            with no_fault("metrics_of_counts", "take the sum of row_counts over any rows"):
                mine = self.format.metrics_of_counts(data.task, counts[::step].sum(0))
            pairs = [pair for row in rows[::step] for pair in row]
            wanted = self.format.metrics(data.task, [p for p, _ in pairs], [r for _, r in pairs])
            far = [name for name in mine if abs(mine[name] - wanted[name]) > ROUNDING]
            require(
                trials.headline(data) in mine and not far,
                f"of every {step}. row the counts give {mine}, and metrics() {wanted}",
                "count in each row what metrics() adds up",
            )

    def test_right_rows_are_no_errors(self) -> None:
        """`wanted_and_given` are two equal texts where a row is all right, and only there."""
        self._skip_without("wanted_and_given")
        data, name = self.specimen.data, trials.headline(self.specimen.data)
        if not trials.several_answers(data):
            raise unittest.SkipTest("all rows have the same answer")
        untrained = trials.scored(data, outcome(self.specimen.model(), data))[name]
        said = [self._said(row) for row in self._by_row()]
        require(
            untrained >= self.best - ROUNDING or any(wanted != given for wanted, given in said),
            "wanted_and_given is the same for all rows of an untrained head",
            "show gold and prediction, so that wrong rows are found",
        )
        for row in self._by_row(self.learnt.after.predictions):
            alone = self.format.metrics(data.task, [p for p, _ in row], [r for _, r in row])[name]
            wanted, given = self._said(row)
            require(
                alone < self.best - ROUNDING or wanted == given,
                f"where a row has the {name} {alone:g}, wanted_and_given are {wanted!r:.80} and "
                f"{given!r:.80}",
                "give two equal texts where all is right: unequal ones are listed as errors",
            )

    def _said(self, row: Sequence[tuple[Any, Any]]) -> tuple[str, str]:
        with no_fault("wanted_and_given", "return two texts for the features of one row"):
            wanted, given = self.format.wanted_and_given(
                self.specimen.data.task, [p for p, _ in row], [r for _, r in row]
            )
        return wanted, given

    def _by_row(self, predictions: Sequence[Any] | None = None) -> list[list[tuple[Any, Any]]]:
        """Prediction and reference of each row's features; of an untrained head if not given."""
        specimen = self.specimen
        store = specimen.data.stores["valid"]
        if predictions is None:
            predictions = outcome(specimen.model(), specimen.data).predictions
        pairs = iter([(p, store.reference(number)) for number, p in enumerate(predictions)])
        sizes = [len(specimen.features([row])) for row in specimen.placed()]
        return [[next(pairs) for _ in range(size)] for size in sizes if size]

    def _skip_without(self, method: str) -> None:
        if getattr(type(self.format), method) is getattr(TaskFormat, method):
            raise unittest.SkipTest(f"format {self.format.code} has no {method}()")


def _read(feature: Feature) -> Any:
    """What a feature reads, as comparable values."""
    return [part.ids.tolist() for part in feature.sequences], [int(read) for read in feature.reads]
