"""A stock model as ONNX, checked against torch on other shapes than it was traced with.

Shapes: S sequences, L tokens of the longest.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mtlplug.errors import MtlplugError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NEEDED = ("onnx", "onnxruntime", "onnxscript")
TRACED = (2, 11)
CHECKED = ((1, 3), (3, 17))
"""Numbers of sequences and of their tokens."""

TOLERANCE = 1e-4
"""Largest difference to torch's logits, relative to the largest of them."""


def write_onnx(model: PreTrainedModel, path: Path) -> float:
    """Write a stock model as ONNX, for any number of sequences of any length.

    Returns the largest relative difference to torch that was found.

    Raises:
        MtlplugError: what it needs is not installed, the model cannot be traced, or the result
            computes something else.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise MtlplugError(
            f"ONNX needs {' and '.join(missing)}; pip install 'mtlplug[onnx]', or leave out --onnx"
        )
    example = _inputs(model, *TRACED)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=_longest(model))}
    try:
        with _silence():
            torch.onnx.export(
                model,
                (),
                path,
                kwargs=example,
                dynamo=True,
                dynamic_shapes=dict.fromkeys(example, sizes),
                input_names=list(example),
                output_names=list(_outputs(model, example)),
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter raises whatever its many parts do
        raise MtlplugError(
            f"'{model.config.model_type}' encoders cannot be written as ONNX by this version of "
            f"torch ({' '.join(str(error).split())[:200]}); leave out --onnx"
        ) from error
    worst = max(_difference(model, path, *shape) for shape in CHECKED)
    if worst > TOLERANCE:
        raise MtlplugError(
            f"the ONNX model of '{model.config.model_type}' differs from torch by {worst:.1e} of "
            "its largest logit; leave out --onnx"
        )
    return worst


def _inputs(model: PreTrainedModel, sequences: int, length: int) -> dict[str, Tensor]:
    """Random sequences, of which the last is a token shorter."""
    generator = torch.Generator().manual_seed(length)
    ids_SL = torch.randint(5, model.config.vocab_size, (sequences, length), generator=generator)
    mask_SL = torch.ones_like(ids_SL)
    ids_SL[-1, -1], mask_SL[-1, -1] = model.config.pad_token_id or 0, 0
    found = {"input_ids": ids_SL, "attention_mask": mask_SL}
    if "token_type_ids" in inspect.signature(model.forward).parameters:
        found["token_type_ids"] = torch.zeros_like(ids_SL)
    return found


def _longest(model: PreTrainedModel) -> int:
    return int(getattr(model.config, "max_position_embeddings", 0) or 512)


def _outputs(model: PreTrainedModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    with torch.no_grad():
        return {key: value for key, value in model(**inputs).items() if isinstance(value, Tensor)}


def _difference(model: PreTrainedModel, path: Path, sequences: int, length: int) -> float:
    """The largest difference of all outputs to torch's."""
    from onnxruntime import InferenceSession

    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = _inputs(model, sequences, length)
    given: Any = {name: value.numpy() for name, value in inputs.items()}
    worst = 0.0
    for ours, theirs in zip(
        _outputs(model, inputs).values(), session.run(None, given), strict=True
    ):
        difference = (ours - torch.from_numpy(theirs)).abs()
        worst = max(worst, float(difference.max() / ours.abs().max()))
    return worst


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter from telling about its passes."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
