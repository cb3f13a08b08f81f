"""Formats without a head, and suites from their text, for the tests of suites."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from mtlplug.data.suites import Suite, load_suite
from mtlplug.data.tokens import Encode
from mtlplug.errors import MtlplugError
from mtlplug.formats import Feature, Row, Task, TaskFormat
from mtlplug.ragged import Splits


class Fake(TaskFormat):
    """A format that only has a name, columns and options."""

    headline = "score"

    def __init__(self, code: str, columns: tuple[str, ...], **options: Any) -> None:
        self.code = self.title = code
        self.columns = columns
        self.options = options

    def features(self, task: Task, rows: Iterable[Row], encode: Encode) -> Iterator[Feature]:
        """Nothing is made of the rows."""
        raise NotImplementedError

    def head(self, task: Task, hidden_size: int) -> nn.Module:
        """There is none."""
        raise NotImplementedError

    def loss(self, scores: Any, targets: Tensor, splits: Splits) -> Tensor:
        """There is none."""
        raise NotImplementedError

    def decode(self, task: Task, scores: Any, splits: Splits) -> list[Any]:
        """There is none."""
        raise NotImplementedError

    def metrics(
        self, task: Task, predictions: Sequence[Any], references: Sequence[Any]
    ) -> dict[str, float]:
        """There are none."""
        raise NotImplementedError


FORMATS: Mapping[str, TaskFormat] = {
    "SL": Fake("SL", ("tokens", "tags"), all_tokens=False),
    "QA": Fake("QA", ("id", "question", "context", "answers"), max_length=384, threshold=0.5),
    "C": Fake("C", ("text", "text_pair", "label")),
    "NEW": Fake("NEW", ()),
}


def load(folder: Path, text: str, data_dir: Path | None = None) -> Suite:
    """A suite from the text of its file."""
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load_suite(str(path), FORMATS, data_dir)


def fault(folder: Path, text: str) -> str:
    """The message of the error that loading a suite ends in."""
    with pytest.raises(MtlplugError) as caught:
        load(folder, text)
    return str(caught.value)
