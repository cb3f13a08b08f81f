"""Opening pretrained encoders and tokenizers: what may go wrong is said in one sentence."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from mtlplug.errors import MtlplugError
from mtlplug.model.roads import INTERFACE_TYPES

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")

COUNTED_FROM_PADDING = frozenset({"camembert", "roberta", "xlm-roberta"})
"""Families of `INTERFACE_TYPES` whose positions begin behind the padding index; of all of these the
configuration says how many there are.
"""

REMEDY = "give the folder of a saved transformers encoder"

LOAD_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
    UnpicklingError,
)
"""What transformers raises for a model it cannot load."""


def load_tokenizer(name_or_path: str) -> PreTrainedTokenizerBase:
    """The tokenizer of an encoder. Code that comes with a model is never run.

    Raises:
        MtlplugError: there is none, or it cannot be read.
    """
    check_folder(name_or_path)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
    except (*LOAD_ERRORS, KeyError, AttributeError, TypeError) as error:
        raise cannot_load("tokenizer", name_or_path, error) from error
    # For a folder without one transformers makes a tokenizer that knows no word.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise MtlplugError(
            f"'{name_or_path}' has no tokenizer that knows a word; put tokenizer.json, or the "
            "files of its vocabulary, beside config.json"
        )
    return tokenizer


def position_limit(name_or_path: str) -> int:
    """Most tokens of a sequence that an encoder takes, known without loading its weights.

    Raises:
        MtlplugError: its configuration cannot be read.
    """
    check_folder(name_or_path)
    try:
        with quiet(), torch.device("meta"):
            config = read_config(name_or_path)
            # Building a model imports far more of transformers than reading its configuration.
            if config.model_type in INTERFACE_TYPES:
                counted = config.model_type in COUNTED_FROM_PADDING
                padding = config.pad_token_id if counted else None
                first = 0 if padding is None else padding + 1
                return int(config.max_position_embeddings) - first
            model = AutoModel.from_config(config, trust_remote_code=False)
    except LOAD_ERRORS as error:
        raise cannot_load("model", name_or_path, error) from error
    return position_table(model)[1]


def read_config(name_or_path: str) -> PretrainedConfig:
    """The configuration of an encoder. Code that comes with a model is never run.

    Raises:
        ValueError: it asks for code from elsewhere (attention written as a kernel on the hub).
    """
    config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False)
    attention = str(config._attn_implementation or "")
    if "/" in attention:
        raise ValueError(f"config.json asks for attention code from the hub ({attention})")
    return config


def model_digest(name_or_path: str) -> str:
    """What tells one encoder from another: a hash of its files, or its name on the hub."""
    folder = Path(name_or_path)
    if not folder.is_dir():
        return name_or_path
    digest = hashlib.sha256()
    for path in sorted(
        path for pattern in ("config.json", *WEIGHTS) for path in folder.glob(pattern)
    ):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def cannot_load(what: str, name_or_path: str, error: Exception) -> MtlplugError:
    """The sentence for a model or tokenizer that transformers refuses."""
    place = "" if Path(name_or_path).is_dir() else "no such folder, and from the hub: "
    reason = shorten(str(error) or type(error).__name__, 240, placeholder=" [...]").rstrip(".")
    # The libraries' own advice is how to run the code all the same.
    if isinstance(error, UnpicklingError):
        reason = "its weights hold more than numbers, which may be code that is never run here"
    elif "trust_remote_code" in str(error):
        reason = "it comes with code of its own, which is never run here"
    return MtlplugError(
        f"cannot load the {what} '{name_or_path}': {place}{reason}; {REMEDY}, "
        "or a model id of the hub"
    )


def position_table(model: PreTrainedModel) -> tuple[int, int]:
    """The position id of a sequence's first token, and how many positions there are.

    A position table with a padding index (RoBERTa and its relatives) counts from behind it.
    """
    for name, table in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(table, nn.Embedding):
            first = 0 if table.padding_idx is None else table.padding_idx + 1
            return first, table.num_embeddings - first
    return 0, getattr(model.config, "max_position_embeddings", None) or sys.maxsize


def check_folder(name_or_path: str) -> None:
    """Refuse a folder that holds no model; a name that is no folder may be one of the hub."""
    folder = Path(name_or_path)
    if folder.is_file():
        raise MtlplugError(f"the model '{folder}' is a file; {REMEDY}")
    if not folder.is_dir():
        if folder.is_absolute() or name_or_path.startswith("."):
            raise MtlplugError(f"the model folder '{folder}' does not exist; {REMEDY}")
        return
    if not (folder / "config.json").is_file():
        raise MtlplugError(f"model folder '{folder}' has no config.json; {REMEDY}")
    if not any(path for pattern in WEIGHTS for path in folder.glob(pattern)):
        raise MtlplugError(
            f"model folder '{folder}' has no weights (model.safetensors or pytorch_model.bin); "
            f"{REMEDY}"
        )
    for index in folder.glob("*.index.json"):
        _check_index(index)


def _check_index(path: Path) -> None:
    """Refuse a list of weight files that names any outside its folder."""
    try:
        names = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise MtlplugError(f"{path} is no list of weight files ({error}); {REMEDY}") from None
    for name in sorted(map(str, names)):
        if Path(name).name != name or name in ("", "..") or "\0" in name:
            raise MtlplugError(
                f"{path} names the weight file '{name}', which is not in its folder; {REMEDY}"
            )


def check_weights(name: str, model: PreTrainedModel, info: dict[str, Any]) -> None:
    """Refuse a model of which transformers would have made up parameters at random."""
    if missing := sorted(info["missing_keys"]):
        raise MtlplugError(
            f"the weights of '{name}' lack {len(missing)} parameters of {type(model).__name__}, "
            f"first '{missing[0]}'; choose a complete encoder"
        )
    for key, found, wanted in info["mismatched_keys"]:
        raise MtlplugError(
            f"the weights of '{name}' do not fit its config.json: '{key}' has shape "
            f"{tuple(found)}, not {tuple(wanted)}; choose a complete encoder"
        )


def without_pooler(config: PretrainedConfig) -> dict[str, bool]:
    """The argument that leaves out a pooler, whose weights no loss would reach."""
    if config.is_encoder_decoder or type(config) not in MODEL_MAPPING:
        raise ValueError(f"model type '{config.model_type}' is not an encoder")
    takes = inspect.signature(MODEL_MAPPING[type(config)].__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in takes else {}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from reporting unused weights and from drawing progress bars."""
    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
