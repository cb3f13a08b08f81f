"""A pretrained transformers encoder that reads packed streams.

Shapes: T packed tokens, S sequences, L tokens of the longest sequence, D hidden width.
"""

from __future__ import annotations

import functools
import inspect
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from mtlplug.batching.stream import TokenStream
from mtlplug.errors import MtlplugError, unknown
from mtlplug.model.attention import NAME, Plan
from mtlplug.model.loading import (
    LOAD_ERRORS,
    cannot_load,
    check_folder,
    check_weights,
    position_table,
    quiet,
    without_pooler,
)

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger("mtlplug")

ROADS = ("auto", "packed", "padded")

PACKED_TYPES = frozenset(
    {
        "albert",
        "bert",
        "camembert",
        "distilbert",
        "electra",
        "modernbert",
        "roberta",
        "xlm-roberta",
    }
)
"""Model types whose gradients the tests found equal, packed and padded."""


class Encoder(nn.Module):
    """A transformers encoder over packed streams: one call, hidden states in stream order.

    Two roads give the same hidden states and gradients. *Packed* runs the model over one row of
    T tokens with the attention of `mtlplug.model.attention`. *Padded* lays the sequences out as
    (S, L) and runs the model as it is, for families whose attention cannot be replaced.

    Args:
        model: the encoder; on the packed road its attention implementation is set.
        road: "packed", "padded", or "auto": packed for `PACKED_TYPES`, padded for others.
        gradient_checkpointing: compute activations again in the backward pass, to save memory.

    Attributes:
        model: the transformers model.
        road: "packed" or "padded".
        hidden_size: D.
        max_length: most tokens of a sequence, special tokens included.

    Raises:
        MtlplugError: the road is unknown, or the model does not support what is asked.
    """

    def __init__(
        self, model: PreTrainedModel, road: str = "auto", gradient_checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        self.road = _road(model.config, road)
        self.hidden_size = int(model.config.hidden_size)
        self._first_position, self.max_length = position_table(model)
        parameters = inspect.signature(model.forward).parameters
        # A family without types, or with a single one, fills them in itself.
        types = getattr(model.config, "type_vocab_size", 0) or 0
        self._has_types = "token_type_ids" in parameters and types > 1
        if self.road == "packed":
            model.set_attn_implementation(NAME)
        if gradient_checkpointing:
            _checkpoint_gradients(model)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str, *, road: str = "auto", gradient_checkpointing: bool = False
    ) -> Encoder:
        """Load a model folder, or a model of the Hugging Face hub, in float32, without pooler.

        Code that comes with a model is never run.

        Raises:
            MtlplugError: the model cannot be loaded, weights are missing, or see `Encoder`.
        """
        check_folder(name_or_path)
        try:
            with quiet():
                config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False)
                model, info = AutoModel.from_pretrained(
                    name_or_path,
                    config=config,
                    trust_remote_code=False,
                    dtype=torch.float32,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # reported below, by name
                    **without_pooler(config),
                )
        except LOAD_ERRORS as error:
            raise cannot_load("model", name_or_path, error) from error
        check_weights(name_or_path, model, info)
        return cls(model, road, gradient_checkpointing)

    def forward(self, stream: TokenStream) -> Tensor:
        """Hidden states of the last layer, in the stream's order. *Shape:* -> (T, D).

        Raises:
            MtlplugError: a sequence is longer than the model takes.
        """
        if (longest := max(stream.lengths)) > self.max_length:
            raise MtlplugError(
                f"a sequence has {longest} tokens, more than the {self.max_length} that "
                f"model type '{self.model.config.model_type}' takes; lower max_length"
            )
        return self._packed(stream) if self.road == "packed" else self._padded(stream)

    def save(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        """Write the model and its tokenizer so that the Auto classes of transformers open them."""
        with quiet():
            self.model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)

    def _packed(self, stream: TokenStream) -> Tensor:
        inputs: dict[str, Any] = {"token_type_ids": stream.types_T[None]} if self._has_types else {}
        output = self.model(
            input_ids=stream.ids_T[None],
            position_ids=stream.positions_T[None] + self._first_position,
            packed_plan=Plan.of(stream),
            **inputs,
        )
        return cast(Tensor, output.last_hidden_state[0])

    def _padded(self, stream: TokenStream) -> Tensor:
        count, longest = len(stream), max(stream.lengths)
        # Where each token lies in (S, L): its row's first place and its position.
        starts_S = torch.arange(count, device=stream.ids_T.device) * longest
        lengths_S = stream.starts_S1.diff().long()
        places_T = starts_S.repeat_interleave(lengths_S, output_size=len(stream.ids_T))
        places_T = places_T + stream.positions_T

        def laid_out(values_T: Tensor, padding: int) -> Tensor:
            padded = values_T.new_full((count * longest,), padding)
            return padded.index_copy(0, places_T, values_T).view(count, longest)

        inputs = {"token_type_ids": laid_out(stream.types_T, 0)} if self._has_types else {}
        output = self.model(
            input_ids=laid_out(stream.ids_T, self.model.config.pad_token_id or 0),
            attention_mask=laid_out(torch.ones_like(stream.ids_T), 0),
            **inputs,
        )
        hidden_SLD: Tensor = output.last_hidden_state
        return hidden_SLD.flatten(0, 1).index_select(0, places_T)


@functools.cache
def _say_padded(model_type: str) -> None:
    """Once in a process, however often a model is opened."""
    logger.warning(
        "model type '%s' cannot run packed: its sequences are padded to the longest of a "
        "micro-batch, which is slower and gives the same gradients",
        model_type,
    )


def _road(config: PretrainedConfig, road: str) -> str:
    if road not in ROADS:
        raise unknown("road", road, ROADS)
    packable = config.model_type in PACKED_TYPES and not getattr(config, "is_decoder", False)
    if road == "packed" and not packable:
        raise MtlplugError(
            f"model type '{config.model_type}' cannot run packed; choose road 'auto' or 'padded' "
            f"(packed: encoders of type {', '.join(sorted(PACKED_TYPES))})"
        )
    if road == "auto" and not packable:
        _say_padded(config.model_type)
    return "packed" if packable and road != "padded" else "padded"


def _checkpoint_gradients(model: PreTrainedModel) -> None:
    if not model.supports_gradient_checkpointing:
        raise MtlplugError(
            f"model type '{model.config.model_type}' has no gradient checkpointing in "
            "transformers; switch it off"
        )
    # Newer versions of transformers warn of the older name.
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False})
