"""What a contract class is given, and what its tests start from."""

from __future__ import annotations

import itertools
import tempfile
import unittest
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mtlplug.formats import TaskFormat
from mtlplug.testing import trials
from mtlplug.testing.specimen import Specimen, outcome
from mtlplug.testing.trials import Learnt


class Contract:
    """Inherit it in a test module, under a name that begins with `Test`.

    Class attributes:
        format: the format.
        task: what a suite says of a task: `labels`, `options`, `metric`.
        rows: four to some dozen rows in the format's columns, JSON-like, with more than one
            answer among them, which can be told from the texts.
        uncounted: rows of which nothing can be counted, for example with a label that the
            others never have; empty where a format has no such rows.
        best: what the headline is when every answer is right.
        stages: of ZeRO, under which two ranks are compared with one.
    """

    format: ClassVar[TaskFormat]
    task: ClassVar[Mapping[str, Any]] = {}
    rows: ClassVar[Sequence[Mapping[str, Any]]]
    uncounted: ClassVar[Sequence[Mapping[str, Any]]] = ()
    best: ClassVar[float] = 100.0
    stages: ClassVar[Sequence[str]] = ("2",)

    _folder: ClassVar[tempfile.TemporaryDirectory[str]]
    _specimen: ClassVar[Specimen]
    _numbers: ClassVar[itertools.count[int]]
    _learnt: ClassVar[Learnt | None]

    @classmethod
    def setup_class(cls) -> None:
        """Make the folder of all files."""
        cls._folder = tempfile.TemporaryDirectory(prefix="mtlplug-contract-")
        cls._specimen = Specimen(cls.format, cls.task, cls.rows, Path(cls._folder.name))
        cls._numbers = itertools.count()
        cls._learnt = None

    @classmethod
    def teardown_class(cls) -> None:
        """Remove it."""
        cls._folder.cleanup()

    def of(self, rows: Sequence[Mapping[str, Any]]) -> Specimen:
        """The format with other rows."""
        folder = Path(self._folder.name) / f"other{next(self._numbers)}"
        return Specimen(self.format, self.task, rows, folder)

    @property
    def learnt(self) -> Learnt:
        """The rows learnt by heart, as well as `least` says; once for all tests."""
        kind = type(self)
        if kind._learnt is None:
            kind._learnt = trials.learn_by_heart(self.specimen, self.least)
        return kind._learnt

    @property
    def least(self) -> float:
        """From where on the headline counts as the best."""
        data = self.specimen.data
        untrained = trials.scored(data, outcome(self.specimen.model(), data))
        return trials.near(self.best, untrained[trials.headline(data)])

    @property
    def specimen(self) -> Specimen:
        """The format with its rows made into features."""
        try:
            assert self._specimen.data
        except Exception:
            raise unittest.SkipTest(
                "rows do not become features (test_rows_become_features)"
            ) from None
        return self._specimen
