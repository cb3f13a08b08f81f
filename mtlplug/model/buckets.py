"""Encoders that compute attention in a module of their own, over packed streams.

DeBERTa and MPNet add relative positions to their scores and do not ask transformers' attention
interface. Here their own attention runs on one run of sequences of equal length at a time, and
everything that treats tokens one by one runs once over the whole stream, `(1, T)`.

How: a layer gets a `Plan` where it expects a mask, and hands it to its attention module, whose
`forward` this module replaces. Given a plan, it projects the whole stream, then calls the family's
own forward for each run on a *twin*: a shallow copy, with the same parameters, whose projections
only hand on their share of what was projected. So layers are called equally often in every pass,
whatever the lengths: few large products, and ranks stay in step under ZeRO-3. Called with a mask
or with none, the module does what it always did; names and values of weights are untouched.

Shapes: T packed tokens, D hidden width, N sequences of one run, L tokens of a sequence,
H attention heads, A width of all heads, P relative positions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlplug.batching.stream import TokenStream
from mtlplug.model.plan import Plan

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONTENT = ("query_proj", "key_proj", "value_proj")
TABLE_STEP = 128
"""Tables of relative positions grow by this many tokens, so that few are made."""


class Buckets:
    """Runs an encoder of one of the families in `BUCKETS` over packed streams.

    Args:
        model: the encoder; from now on its attention modules also take plans.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._run, self._attention, attend = BUCKETS[model.config.model_type]
        self._positions = Positions()
        for layer in model.encoder.layer:
            module = layer.get_submodule(self._attention)
            module.forward = partial(_forward, attend, module)

    def __call__(
        self, model: PreTrainedModel, stream: TokenStream, plan: Plan, inputs: Mapping[str, Any]
    ) -> Tensor:
        """Hidden states of the last layer. *Shape:* -> (1, T, D).

        Args:
            model: the encoder.
            stream: the sequences.
            plan: where they lie.
            inputs: what the model's embeddings take, of shape (1, T).
        """
        return self._run(model, stream, plan, model.embeddings(**inputs), self._positions)


class Relative(NamedTuple):
    """Relative positions as DeBERTa counts them.

    Attributes:
        table: of every pair of tokens, (1, L, L) for the longest sequence or longer.
        spans: for each length one more than the largest number in its part of the table.
    """

    table: Tensor
    spans: tuple[int, ...]


class Positions:
    """Keeps DeBERTa's table of relative positions, made on the CPU, where no device waits."""

    def __init__(self) -> None:
        self._relative: Relative | None = None

    def of(self, encoder: Any, longest: int, device: torch.device) -> Relative | None:
        """The table for sequences up to a length; None for a model without."""
        if not encoder.relative_attention:
            return None
        known = self._relative
        if known is None or known.table.shape[-1] < longest or known.table.device != device:
            size = -(-longest // TABLE_STEP) * TABLE_STEP
            table = encoder.get_rel_pos(torch.empty(1, size, 0))
            spans = table[0, 0].abs().cummax(0).values + 1
            known = Relative(table.to(device, non_blocking=True), (0, *spans.tolist()))
            self._relative = known
        return known


def _forward(
    attend: Callable[..., Tensor],
    module: nn.Module,
    hidden_states: Tensor,
    attention_mask: Any = None,
    *args: Any,
    **options: Any,
) -> Any:
    """An attention module's forward: ours for a plan, the family's own for anything else."""
    if isinstance(attention_mask, Plan):
        return attend(module, hidden_states, attention_mask, *args, **options), None
    return type(module).forward(module, hidden_states, attention_mask, *args, **options)


def _run_deberta(
    model: Any, stream: TokenStream, plan: Plan, hidden: Tensor, positions: Positions
) -> Tensor:
    """The layers of DeBERTa, of either version, without masks over T x T tokens."""
    embedded, encoder = hidden, model.encoder
    relative = positions.of(encoder, plan.longest, hidden.device)
    embeddings_PD = encoder.get_rel_embedding()
    for number, layer in enumerate(encoder.layer):
        hidden = layer(hidden, plan, relative_pos=relative, rel_embeddings=embeddings_PD)[0]
        if number == 0 and getattr(encoder, "conv", None) is not None:
            hidden = _convolve(encoder.conv, embedded, hidden, stream)
    return hidden


def _run_mpnet(
    model: Any, stream: TokenStream, plan: Plan, hidden: Tensor, positions: Positions
) -> Tensor:
    """The layers of MPNet; the bias of a score depends on its two tokens' distance alone."""
    encoder, longest = model.encoder, plan.longest
    distances_P = torch.arange(1 - longest, longest, device=hidden.device)
    bias_PH = encoder.relative_attention_bias(encoder.relative_position_bucket(distances_P))
    bias_HP = bias_PH.t().contiguous()
    biases = {}
    for length in {length for _, length in plan.runs}:
        # Row i of an (L, L) bias is a window of L distances that starts at -i.
        near_HP = bias_HP[:, longest - length : longest + length - 1]
        biases[length] = near_HP.unfold(1, length, 1).flip(1)[None]
    for layer in encoder.layer:
        hidden = layer(hidden, plan, biases)[0]
    return hidden


def _attend_mpnet(
    module: Any, hidden: Tensor, plan: Plan, biases: Mapping[int, Tensor], **_: Any
) -> Tensor:
    names = ("q", "k", "v")
    twin = _twin(module, **_shares(names, module.all_head_size), o=nn.Identity())
    rows = [
        type(module).forward(twin, run, None, biases[run.shape[1]])[0]
        for run in _runs(_projected(module, names, hidden), plan)
    ]
    return cast(Tensor, module.o(_joined(rows)))


def _attend_deberta(
    module: Any,
    hidden: Tensor,
    plan: Plan,
    *_: Any,
    relative_pos: Relative | None,
    rel_embeddings: Tensor | None,
    **__: Any,
) -> Tensor:
    """Attention of DeBERTa's first version, which has its three projections in one."""
    shares: dict[str, Any] = {"in_proj": nn.Identity()}
    places = None
    if relative_pos is not None and rel_embeddings is not None:
        names = [name for name in ("pos_q_proj", "pos_proj") if hasattr(module, name)]
        places = _projected(module, names, module.pos_dropout(rel_embeddings))
        shares |= _shares(names, module.all_head_size) | {"pos_dropout": nn.Identity()}
    twin = _twin(module, **shares)
    rows = []
    for run in _runs(module.in_proj(hidden), plan):
        near = relative_pos and relative_pos.table[:, : run.shape[1], : run.shape[1]]
        seen = run.new_ones((1, 1, 1, 1), dtype=torch.bool)
        rows.append(
            type(module).forward(twin, run, seen, relative_pos=near, rel_embeddings=places)[0]
        )
    return _joined(rows)


def _attend_deberta_v2(
    module: Any,
    hidden: Tensor,
    plan: Plan,
    *_: Any,
    relative_pos: Relative | None,
    rel_embeddings: Tensor | None,
    **__: Any,
) -> Tensor:
    """Attention of DeBERTa's second and third version."""
    width = module.all_head_size
    twin = _twin(module, **_shares(CONTENT, width))
    places = None
    if relative_pos is not None and rel_embeddings is not None:
        names: Sequence[str] = ("pos_query_proj", "pos_key_proj")
        # Shared projections take the first shares of positions as they do of tokens.
        names = CONTENT[:2] if module.share_att_key else [n for n in names if hasattr(module, n)]
        places = _projected(module, names, module.pos_dropout(rel_embeddings))
        vars(twin).update(_shares(names, width), pos_dropout=nn.Identity())
    rows = []
    for run in _runs(_projected(module, CONTENT, hidden), plan):
        length, near, close = run.shape[1], None, None
        if relative_pos is not None and places is not None:
            near = relative_pos.table[:, :length, :length]
            # A short sequence needs the middle of the positions only, not all 512.
            most = module.pos_ebd_size
            twin.pos_ebd_size = span = min(relative_pos.spans[length], most)
            close = places[most - span : most + span]
        seen = run.new_ones((1, 1, 1, 1), dtype=torch.bool)
        rows.append(
            type(module).forward(twin, run, seen, relative_pos=near, rel_embeddings=close)[0]
        )
    return _joined(rows)


def _convolve(conv: Any, embedded: Tensor, hidden: Tensor, stream: TokenStream) -> Tensor:
    """DeBERTa-v2's convolution over neighbouring tokens, with gaps between the sequences.

    A gap is as wide as what the convolution pads a sequence with, so none reaches another.
    *Shape:* (1, T, D), (1, T, D) -> (1, T, D).
    """
    gap, tokens = conv.conv.padding[0], hidden.shape[1]
    numbers_S = torch.arange(len(stream), device=hidden.device)
    lengths_S = stream.starts_S1.diff().long()
    numbers_T = numbers_S.repeat_interleave(lengths_S, output_size=tokens)
    places_T = torch.arange(tokens, device=hidden.device) + gap * numbers_T

    def spread(values: Tensor) -> Tensor:
        shape = (1, tokens + gap * len(stream), *values.shape[2:])
        return values.new_zeros(shape).index_copy(1, places_T, values)

    mask = spread(torch.ones_like(stream.ids_T)[None])
    output: Tensor = conv(spread(embedded), spread(hidden), mask)
    return output.index_select(1, places_T)


def _projected(module: Any, names: Sequence[str], values: Tensor) -> Tensor:
    """What some layers of a module make of values, side by side. *Shape:* (.., D) -> (.., n A)."""
    return torch.cat([getattr(module, name)(values) for name in names], -1)


def _shares(names: Sequence[str], width: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """For each layer of `_projected` a stand-in that takes its own part."""
    return {name: partial(_share, number * width, width) for number, name in enumerate(names)}


def _share(start: int, width: int, values: Tensor) -> Tensor:
    # A copy, not a view: DeBERTa divides what it gets in place.
    return values.narrow(-1, start, width).clone()


def _twin(module: Any, **others: Any) -> Any:
    """A shallow copy of a module in which others stand in for all of its layers."""
    twin = copy.copy(module)
    drop = partial(F.dropout, p=module.dropout.p, training=module.dropout.training)
    # Found before the layers of the same name, which the twin shares with the module.
    vars(twin).update(others, dropout=drop)
    return twin


def _runs(values: Tensor, plan: Plan) -> Iterator[Tensor]:
    """The runs of a stream, one after the other. *Shape:* (1, T, A) -> (N, L, A)."""
    parts = torch.split(values[0], plan.sizes)
    for (count, length), part in zip(plan.runs, parts, strict=True):
        yield part.view(count, length, -1)


def _joined(rows: Sequence[Tensor]) -> Tensor:
    """Runs laid end to end. *Shape:* (N, L, A) each -> (1, T, A)."""
    return torch.cat([row.flatten(0, 1) for row in rows])[None]


Run = Callable[[Any, TokenStream, Plan, Tensor, Positions], Tensor]
BUCKETS: Mapping[str, tuple[Run, str, Callable[..., Tensor]]] = {
    "deberta": (_run_deberta, "attention.self", _attend_deberta),
    "deberta-v2": (_run_deberta, "attention.self", _attend_deberta_v2),
    "mpnet": (_run_mpnet, "attention.attn", _attend_mpnet),
}
"""For each model type: how its layers are run, where a layer has its attention, and that."""
