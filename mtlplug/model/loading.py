"""The tokenizer of an encoder, and how long a sequence may be, before its weights are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from mtlplug.errors import MtlplugError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(name_or_path: str) -> "PreTrainedTokenizerBase":
    """x"""
    tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
    return tokenizer


def position_limit(name_or_path: str) -> int:
    """x"""
    config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False)
    from mtlplug.model.encoder import _positions
    with torch.device("meta"):
        return _positions(AutoModel.from_config(config))[1]
