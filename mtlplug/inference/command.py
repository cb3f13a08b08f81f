"""What `mtlplug export` and `mtlplug predict` do, from options to files."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mtlplug.errors import MtlplugError, unknown
from mtlplug.formats import Row
from mtlplug.inference.export import export_all, export_encoder, export_task
from mtlplug.inference.inputs import LINES, kind_of, read_rows
from mtlplug.inference.prediction import Predictor, Presented
from mtlplug.inference.trained import open_run
from mtlplug.pages.wording import counted
from mtlplug.schemes import OUTSIDE


def export(
    folder: Path, *, task: str | None, everything: bool, encoder: bool, to: Path, onnx: bool
) -> None:
    """Write one task of a run, all of them, or the encoder alone.

    Raises:
        MtlplugError: not one of the three was asked for, or see `mtlplug.inference.export`.
    """
    if (task is not None) + everything + encoder != 1:
        raise MtlplugError("say what to export: one of --task NAME, --all and --encoder")
    if encoder and onnx:
        raise MtlplugError("--onnx is for models with a head; give --task NAME or --all")
    run = open_run(folder, None if everything else [task] if task else [], device="cpu")
    if encoder:
        export_encoder(run, to)
    elif everything:
        export_all(run, to, onnx=onnx)
    else:
        export_task(run, str(task), to, onnx=onnx)
    for part in [to / name for name in run.tasks] if everything else [to]:
        print(f"saved in {part}")


def predict(
    folder: Path,
    tasks: Sequence[str],
    path: Path,
    *,
    kind: str | None,
    columns: Mapping[str, Any],
    options: Mapping[str, Any],
    output_format: str,
    to: Path | None,
    encoding: str,
    header: bool,
) -> None:
    """Predict for each row of a file as it is read, and write one answer a row.

    Raises:
        MtlplugError: the run, a task, an option or the file is wrong.
    """
    if output_format not in WRITERS:
        raise unknown("format of the output", output_format, WRITERS)
    kind = kind_of(path, kind)
    predictor = Predictor(open_run(folder, tasks), tasks, options)
    rows = _Kept(read_rows(path, kind, columns, encoding, header=header))
    with _opened(to) as file:
        for prediction in predictor(rows):
            file.write(WRITERS[output_format](rows.next(), prediction))
    for name, counts in predictor.counts.items():
        print(f"counted in {name}: {counted(counts)}", file=sys.stderr)


class _Kept:
    """Rows that can be had a second time, in their order, once their predictions are there."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._waiting: deque[Row] = deque()

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self._waiting.append(row)
            yield row

    def next(self) -> Row:
        """The first row that was read and not had yet."""
        return self._waiting.popleft()


@contextmanager
def _opened(to: Path | None) -> Iterator[IO[str]]:
    """Standard output, or a file that is there once it is whole."""
    if to is None:
        yield sys.stdout
        return
    to = to.absolute()  # "." has no name
    unfinished = to.with_name(to.name + ".tmp")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            yield file
        unfinished.replace(to)
    except OSError as error:
        raise MtlplugError(f"{to} cannot be written ({error.strerror or error})") from None
    finally:
        unfinished.unlink(missing_ok=True)


def _json_line(row: Row, prediction: Presented) -> str:
    """The predictions of all tasks by name, after the row's id where it has one."""
    known = {"id": row["id"]} if "id" in row and "id" not in prediction else {}
    return json.dumps({**known, **prediction}, ensure_ascii=False) + "\n"


def _conll_lines(row: Row, prediction: Presented) -> str:
    """A line a word: the input's own lines, where it was CoNLL, with a column more a task."""
    words = row.get("tokens") or []
    columns = []
    for name, presented in prediction.items():
        if presented is None:  # no word became a token
            columns.append([OUTSIDE] * len(words))
            continue
        if not isinstance(presented, Mapping) or "labels" not in presented:
            raise MtlplugError(
                f"task '{name}' has no labels of words, which --format conll is for; leave it out"
            )
        words = presented["tokens"]
        columns.append(presented["labels"])
    given = row.get(LINES, [*words, ""])
    labels = iter(zip(*columns, strict=True))
    written = []
    for line in given:
        if line.strip(" \t") and columns:
            separator = "\t" if "\t" in line or LINES not in row else " "
            line = separator.join([line, *next(labels)])
        written.append(line + "\n")
    return "".join(written)


WRITERS: dict[str, Callable[[Row, Presented], str]] = {
    "jsonl": _json_line,
    "conll": _conll_lines,
}
