"""Stock transformers models of a finished run: `mtlplug export`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path

from mtlplug.errors import MtlplugError
from mtlplug.inference.card import write_card
from mtlplug.inference.trained import TrainedRun
from mtlplug.model.loading import quiet


def export_task(run: TrainedRun, task: str, folder: Path, *, onnx: bool = False) -> None:
    """Write the encoder and one head as the stock class of the task's format.

    The folder holds model, tokenizer, names of labels and model card; with `onnx` also
    `model.onnx`, checked against torch.

    Raises:
        MtlplugError: the folder is not empty, the format has no stock class for this family of
            encoders, or what ONNX needs is not installed.
    """
    with new_folder(folder) as unfinished:
        _write_task(run, task, unfinished, folder.name, onnx)


def export_all(run: TrainedRun, folder: Path, *, onnx: bool = False) -> None:
    """Write every task that is open into a folder of its own in `folder`; all or nothing.

    Raises:
        MtlplugError: see `export_task`.
    """
    with new_folder(folder) as unfinished:
        for task in run.tasks:
            (unfinished / task).mkdir()
            _write_task(run, task, unfinished / task, task, onnx)


def export_encoder(run: TrainedRun, folder: Path) -> None:
    """Write the encoder alone, for `AutoModel`.

    Raises:
        MtlplugError: the folder is not empty.
    """
    with new_folder(folder) as unfinished:
        run.encoder.save(unfinished, run.tokenizer)
        write_card(run, None, type(run.encoder.model).__name__, unfinished, folder.name)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes its place once all is written.

    Raises:
        MtlplugError: there is something in its place, or it cannot be written.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise MtlplugError(f"{folder} is there and not empty; choose another with --to")
    place = folder.absolute()  # "." has no name
    unfinished = place.with_name(place.name + ".tmp")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        yield unfinished
        if place.is_dir():  # somebody may be in it
            for each in unfinished.iterdir():
                each.rename(place / each.name)
        else:
            unfinished.rename(place)
    except OSError as error:
        raise MtlplugError(f"{folder} cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_task(run: TrainedRun, task: str, folder: Path, name: str, onnx: bool) -> None:
    stock = run.formats[task].export(run.tasks[task], run.heads[task], run.encoder.model)
    tokenizer = copy(run.tokenizer)
    tokenizer.model_max_length = run.encode(task).max_length  # what the head was trained on
    with quiet():
        stock.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    if onnx:
        from mtlplug.inference.onnx_model import write_onnx

        write_onnx(stock, folder / "model.onnx")
    write_card(run, task, type(stock).__name__, folder, name)
