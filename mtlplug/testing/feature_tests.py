"""Tests of what a format makes of rows. Nothing of pytest is imported: they run without it, too."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np

from mtlplug.data.build import SHORTEST, TRAIN
from mtlplug.data.tokens import CUTS
from mtlplug.errors import MtlplugError
from mtlplug.formats import IGNORE, Feature, Task
from mtlplug.plugin_manager import checked_format
from mtlplug.testing import odd_rows
from mtlplug.testing.base import Contract
from mtlplug.testing.failures import ContractError, no_fault, require, sentence
from mtlplug.testing.specimen import Specimen, outcome

LEAST_ROWS = 4


class FeatureTests(Contract):
    """Rows in, features out."""

    def test_the_format_is_declared(self) -> None:
        """Code, title, headline and columns say what it is, for a contract that is kept."""
        with no_fault("the class attributes", "see mtlplug.formats.TaskFormat"):
            checked_format(self.format)
        require(
            len(self.rows) >= LEAST_ROWS,
            f"{len(self.rows)} rows are too few",
            f"give {LEAST_ROWS} or more, with more than one answer among them",
        )
        columns = sorted({key for row in self.rows for key in row} - {*self.format.columns})
        require(
            not (columns and self.format.columns),
            f"rows have the columns {', '.join(columns)}, which the format does not declare",
            "add them to the class attribute columns: a suite can map no others",
        )

    def test_rows_become_features(self) -> None:
        """`prepare` and `features` take the rows; facts and references are JSON-like."""
        with no_fault(
            "rows become no features",
            "let prepare and features take the rows as a JSON Lines file has them, and count reads "
            "from 0 over the feature's own tokens",
        ):
            data = self._specimen.data
        require(len(data.stores[TRAIN]) > 1, "the rows make one feature", "give more rows")

    def test_reads_are_inside_their_feature(self) -> None:
        """Reads are places among the tokens of the feature's own sequences; targets are numbers."""
        specimen = self.specimen
        for feature in specimen.features(specimen.placed()):
            reads, tokens = np.asarray(feature.reads), sum(map(len, feature.sequences))
            require(
                (reads.ndim == 1 and np.issubdtype(reads.dtype, np.integer)) or not len(reads),
                f"reads are {feature.reads!r:.80}",
                "give a flat list of whole numbers",
            )
            require(
                all(0 <= read < tokens for read in reads.tolist()),
                f"reads {reads.tolist()} of a feature of {tokens} tokens",
                "count over the feature's sequences laid end to end, from 0",
            )
            target = np.asarray(feature.target, dtype=np.float64)
            require(np.isfinite(target).all(), f"a target is {target}", "leave such rows out")

    def test_features_are_the_same_every_time(self) -> None:
        """The same rows make the same features: they are kept on disk between runs."""
        specimen = self.specimen
        first, second = (
            [_plain(feature) for feature in specimen.features(specimen.placed())] for _ in "12"
        )
        require(
            first == second,
            "two calls of features() on the same rows give different features",
            "draw random numbers from a generator seeded by the row: random.Random(row.where)",
        )

    def test_features_come_as_rows_are_read(self) -> None:
        """Features are yielded on the way, so that memory does not grow with the dataset."""
        specimen = self.specimen
        read = 0

        def endless() -> Any:
            nonlocal read
            for read, row in enumerate(itertools.cycle(specimen.placed())):
                require(
                    read < 5000,
                    "features() reads 5000 rows and yields nothing",
                    "make it a generator; hand encode.texts a generator, not a list of all rows",
                )
                yield row

        encode = specimen.builder().encode(specimen.data.task)
        next(iter(self.format.features(specimen.data.task, endless(), encode)))

    def test_empty_texts(self) -> None:
        """Rows with empty texts and lists are dropped and counted, refused, or harmless."""
        odd_rows.check_odd_values(self.specimen, odd_rows.EMPTY, texts_only=True)

    def test_unicode(self) -> None:
        """Any text may stand in a row: other scripts, signs of several characters, nothing."""
        odd_rows.check_odd_values(self.specimen, odd_rows.UNICODE, texts_only=True)

    def test_wrong_values_get_one_sentence(self) -> None:
        """Values missing or of another type are refused with their place, not by a traceback."""
        odd_rows.check_odd_values(self.specimen, odd_rows.WRONG, texts_only=False)

    def test_truncation_is_survived_and_counted(self) -> None:
        """Where less fits in a sequence features stay sound, and the user is told what was cut."""
        specimen = self.specimen
        sequences = [s for f in specimen.features(specimen.placed()) for s in f.sequences]
        longest = max(map(len, sequences))
        survived = 0
        for length in sorted({SHORTEST, longest // 2, longest * 3 // 4, longest - 2}):
            if not SHORTEST <= length < longest:
                continue
            survived += self._truncated(specimen, length)
        require(
            survived,
            f"rows of up to {longest} tokens cannot be cut",
            "give longer rows, or let the task's options allow shorter sequences",
        )

    def _truncated(self, specimen: Specimen, length: int) -> bool:
        """Whether sequences of this length were made; one sentence may say that they are not."""
        task = specimen.data.task
        task = replace(task, options={**task.options, "max_length": length})
        encode = specimen.builder().encode(task)
        what = f"with sequences of up to {length} tokens"
        try:
            features = specimen.features(specimen.placed(), task, encode)
        except MtlplugError:
            return False
        except Exception as error:
            raise ContractError(
                f"{what}, features() raises {sentence(error)}",
                "read only tokens that are left; Encoded.truncated tells that some were cut",
            ) from error
        _check_told(specimen, task, what)
        if features:
            with no_fault(what, "reads and targets must fit the tokens that are left"):
                losses = outcome(specimen.model(task), specimen.stored(features, task)).losses
            require(all(map(math.isfinite, losses)), f"{what} losses are {losses}", "see loss()")
        return True


def _check_told(specimen: Specimen, task: Task, what: str) -> None:
    """Of texts that are cut `Encode` tells; rows and targets lost with them the format must count.

    Targets that are no beginning of those of the whole row are not its gold, but drawn from what
    the text still holds (masked tokens): of these nothing is lost.
    """
    encodes = [specimen.builder().encode(each) for each in (task, specimen.data.task)]
    silent, gold = [], True
    for row in specimen.placed():
        short, whole = (each.part(0) for each in encodes)
        ours = specimen.features([row], task, short)
        theirs = specimen.features([row], encode=whole)
        told = (short.counts - whole.counts).keys() - {*CUTS}
        require(
            ours or told or not theirs,
            f"{what} {row.where} is left out without a word",
            "count what is left out: encode.count('rows too long')",
        )
        if len(ours) == len(theirs):
            for part, full in zip(map(_counted, ours), map(_counted, theirs), strict=True):
                if len(part) < len(full):
                    gold &= part.items() <= full.items()
                    silent += [] if told else [f"{len(full) - len(part)} targets of {row.where}"]
    require(
        not (silent and gold),
        f"{what} {next(iter(silent), None)} are lost without a word",
        "count what was lost: encode.count('words cut', number)",
    )


def _counted(feature: Feature) -> dict[int, Any]:
    """The targets that are counted, by their places."""
    targets = np.asarray(feature.target).reshape(-1).tolist()
    return {place: value for place, value in enumerate(targets) if value != IGNORE}


def _plain(feature: Feature) -> Any:
    """A feature as comparable values."""
    ids = [sequence.ids.tolist() for sequence in feature.sequences]
    numbers = [np.asarray(each).tolist() for each in (feature.reads, feature.target)]
    return ids, numbers, feature.reference
