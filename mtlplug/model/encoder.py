"""A pretrained transformers encoder that reads packed streams.

Shapes: T packed tokens, S sequences, L tokens of the longest sequence, D hidden width.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModel

from mtlplug.batching.stream import TokenStream
from mtlplug.errors import MtlplugError
from mtlplug.model.attention import NAME
from mtlplug.model.buckets import Buckets
from mtlplug.model.graphs import Graphs
from mtlplug.model.kernels import gpu_of, kernel_name
from mtlplug.model.loading import (
    LOAD_ERRORS,
    cannot_load,
    check_folder,
    check_weights,
    position_table,
    quiet,
    read_config,
    without_pooler,
)
from mtlplug.model.plan import Plan
from mtlplug.model.roads import BUCKET_TYPES, chosen_road

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Encoder(nn.Module):
    """A transformers encoder over packed streams: one call, hidden states in stream order.

    Two roads give the same hidden states and gradients. *Packed* runs the model over one row of
    T tokens; attention is that of `mtlplug.model.attention`, or the family's own on sequences of
    one length at a time (`mtlplug.model.buckets`). *Padded* lays the sequences out as (S, L) and
    runs the model as it is, for families of which no more is known. `road_of` says which it is.

    Args:
        model: the encoder; on the packed road its attention is replaced.
        road: "packed", "padded", or "auto": packed wherever it is known to be right.
        gradient_checkpointing: compute activations again in the backward pass, to save memory.

    Attributes:
        model: the transformers model.
        road: "packed" or "padded".
        hidden_size: D.
        max_length: most tokens of a sequence, special tokens included.
        pad_to: on the padded road, lay sequences out over at least this many tokens, as far as
            the model takes them; None: over as many as the longest has. For measurements.

    Raises:
        MtlplugError: the road is unknown, or the model does not support what is asked.
    """

    def __init__(
        self, model: PreTrainedModel, road: str = "auto", gradient_checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        self.road = chosen_road(model.config, road)
        self.pad_to: int | None = None
        self.hidden_size = int(model.config.hidden_size)
        self._first_position, self.max_length = position_table(model)
        parameters = inspect.signature(model.forward).parameters
        # A family without types, or with a single one, fills them in itself.
        types = getattr(model.config, "type_vocab_size", 0) or 0
        self._has_types = "token_type_ids" in parameters and types > 1
        self._buckets: Buckets | None = None
        self._graphs: Graphs | None = None
        if self.road == "packed":
            if model.config.model_type in BUCKET_TYPES:
                self._buckets = Buckets(model)
            else:
                model.set_attn_implementation(NAME)
        self._checkpointing = gradient_checkpointing
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
                config = read_config(name_or_path)
                model, info = AutoModel.from_pretrained(
                    name_or_path,
                    config=config,
                    trust_remote_code=False,
                    weights_only=True,
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
        if self.road != "packed":
            return self._padded(stream)
        if self._graphs is not None and self.training and torch.is_grad_enabled():
            return self._graphs(stream)
        return self._packed(stream)

    def use_graphs(self, most_tokens: int) -> bool:
        """Replay CUDA graphs in training from now on, where that is possible; whether it is.

        To be called when the parameters lie where they will be trained.

        Args:
            most_tokens: of a stream that is worth it.
        """
        first = next(self.parameters())
        width = self.hidden_size // int(getattr(self.model.config, "num_attention_heads", 1))
        kernel = kernel_name(gpu_of(first.device), first.dtype, width, banded=True, dropout=True)
        possible = self.road == "packed" and self._buckets is None and not self._checkpointing
        if possible and kernel == "flash":
            self._graphs = Graphs(self.model, self._inputs, most_tokens)
        return self._graphs is not None

    def lent(self, names: Iterable[str]) -> dict[str, nn.Parameter]:
        """Parameters that heads borrow (`TaskFormat.borrows`), by name."""
        parameters = {"input_embeddings": lambda: self.model.get_input_embeddings().weight}
        return {name: parameters[name]() for name in names}

    @contextmanager
    def padded(self, attention: str, pad_to: int | None = None) -> Iterator[None]:
        """Run as transformers alone would, for measurements: padded, with its own attention.

        Args:
            attention: "eager" or "sdpa"; families without a choice keep what they have.
            pad_to: see the attribute.
        """
        before = self.road, self.pad_to, self.model.config._attn_implementation
        self.road, self.pad_to = "padded", pad_to
        if self._buckets is None:
            self.model.set_attn_implementation(attention)
        try:
            yield
        finally:
            self.road, self.pad_to, attention = before
            if self._buckets is None:
                self.model.set_attn_implementation(attention)

    @contextmanager
    def everything_kept(self) -> Iterator[None]:
        """Run without gradient checkpointing, for measurements."""
        if self._checkpointing:
            self.model.gradient_checkpointing_disable()
        try:
            yield
        finally:
            if self._checkpointing:
                _checkpoint_gradients(self.model)

    def save(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        """Write the model and its tokenizer so that the Auto classes of transformers open them."""
        with quiet():
            self.model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)

    def _packed(self, stream: TokenStream) -> Tensor:
        plan, inputs = Plan.of(stream), self._inputs(stream)
        if self._buckets is not None:
            return self._buckets(self.model, stream, plan, inputs)[0]
        return cast(Tensor, self.model(**inputs, packed_plan=plan).last_hidden_state[0])

    def _inputs(self, stream: TokenStream) -> dict[str, Any]:
        """The model's arguments for a packed stream, but for its plan."""
        inputs = {
            "input_ids": stream.ids_T[None],
            "position_ids": stream.positions_T[None] + self._first_position,
        }
        if self._has_types:
            inputs["token_type_ids"] = stream.types_T[None]
        return inputs

    def _padded(self, stream: TokenStream) -> Tensor:
        count, longest = len(stream), max(stream.lengths)
        if self.pad_to is not None:
            longest = max(longest, min(self.pad_to, self.max_length))
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


def _checkpoint_gradients(model: PreTrainedModel) -> None:
    if not model.supports_gradient_checkpointing:
        raise MtlplugError(
            f"model type '{model.config.model_type}' has no gradient checkpointing in "
            "transformers; switch it off"
        )
    # Newer versions of transformers warn of the older name.
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False})
