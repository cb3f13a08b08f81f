"""The rows of an encoder's vocabulary that a run reads; the others are left out of its training.

A row whose token occurs in no feature gets a gradient of zero in every step, and AdamW without
weight decay then leaves it and its moments as they are. So optimizer, gradients, checkpoints and
what ranks send each other do without such rows, and every other parameter is trained as if they
were there. XLM-R (base) has 192 of its 278 million parameters in its vocabulary.

Shapes: V rows of the whole vocabulary, U rows that are trained, E width of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlplug.data.records import TYPE_BITS
from mtlplug.model.roads import PACKED_TYPES

if TYPE_CHECKING:
    from mtlplug.config import RunConfig
    from mtlplug.data.build import TaskData
    from mtlplug.data.store import FeatureStore
    from mtlplug.model.encoder import Encoder

FIRST = 8
"""Rows trained whatever the data holds: 0 is padding where a model names none, and passes that
only measure (`mtlplug.model.activations`, `flops`) read token 5."""

WORTH = 0.1
"""Share of an encoder's parameters from which on rows are left out."""


class UsedRows(nn.Module):
    """Stands in for an encoder's input embeddings: ids of the whole vocabulary, fewer rows.

    Args:
        whole: the embeddings; they stay as they are.
        ids_U: the tokens whose rows are trained, ascending.

    Attributes:
        weight: the rows, (U, E).
        places_V: the row of each token, -1 for one that has none; int32. Not among the saved
            weights.
        padding_idx: the row that gets no gradient; None: there is none.
    """

    places_V: Tensor

    def __init__(self, whole: nn.Embedding, ids_U: Tensor) -> None:
        super().__init__()
        places_V = torch.full((whole.num_embeddings,), -1, dtype=torch.int32)
        places_V[ids_U] = torch.arange(len(ids_U), dtype=torch.int32)
        padding = whole.padding_idx
        self.padding_idx = None if padding is None else int(places_V[padding])
        self.weight = nn.Parameter(whole.weight.detach()[ids_U])
        self.register_buffer("places_V", places_V, persistent=False)
        self._trained, self._width = len(ids_U), whole.embedding_dim

    @property
    def ids_U(self) -> Tensor:
        """The tokens whose rows are trained, on the CPU."""
        return (self.places_V.cpu() >= 0).nonzero().flatten()

    @property
    def counts(self) -> dict[str, int]:
        """How many `rows` are trained, `of` how many."""
        return {"rows": self._trained, "of": len(self.places_V)}

    @property
    def left_out(self) -> int:
        """Parameters that are not trained."""
        return (len(self.places_V) - self._trained) * self._width

    def forward(self, ids: Tensor) -> Tensor:
        """The row of each id. *Shape:* (..) -> (.., E). The host waits for no device.

        Raises:
            IndexError: an id has no row (on a GPU its own assertion, later).
        """
        return F.embedding(self.places_V[ids], self.weight, self.padding_idx)


def used_rows(encoder: Encoder) -> UsedRows | None:
    """The rows an encoder trains; None: its whole vocabulary."""
    table = encoder.model.get_input_embeddings()
    return table if isinstance(table, UsedRows) else None


def leave_out_unused(
    encoder: Encoder,
    data: Sequence[TaskData],
    config: RunConfig,
    deepspeed_config: Mapping[str, Any],
) -> UsedRows | None:
    """Leave the rows that no feature reads out of an encoder, where that is exact and worth it.

    It follows from the arguments alone: every rank does the same, and so does a resumed run.

    Args:
        encoder: on the CPU; its vocabulary is replaced.
        data: everything it will read.
        config: of the run.
        deepspeed_config: resolved.

    Returns:
        What took the vocabulary's place; None: nothing did.
    """
    whole = encoder.model.get_input_embeddings()
    exact = (
        config.weight_decay == 0
        and "optimizer" not in deepspeed_config  # who knows what it does to a row
        and not any("input_embeddings" in each.format.borrows for each in data)
        and _only_looked_up(encoder, whole)
    )
    least = WORTH * sum(parameter.numel() for parameter in encoder.parameters())
    if not exact or whole.weight.numel() < least:
        return None
    wanted = {*range(FIRST), encoder.model.config.pad_token_id, whole.padding_idx} - {None}
    ids_U = _ids([store for each in data for store in each.stores.values()], wanted)
    unused = whole.num_embeddings - len(ids_U)
    # A token beyond the vocabulary is for the lookup to refuse.
    if unused * whole.embedding_dim < least or ids_U[-1] >= whole.num_embeddings:
        return None
    rows = UsedRows(whole, torch.from_numpy(ids_U))
    encoder.model.set_input_embeddings(rows)
    return rows


@contextmanager
def trimmed_as(encoder: Encoder, trained: Encoder) -> Iterator[None]:
    """Give an encoder the vocabulary of one that was trained, so that its weights fit.

    Afterwards it has its whole vocabulary again, with these rows in their places.

    Args:
        encoder: as it was before training, on the CPU.
        trained: whose rows count.
    """
    rows = used_rows(trained)
    if rows is None:
        yield
        return
    whole, ids_U = encoder.model.get_input_embeddings(), rows.ids_U
    part = UsedRows(whole, ids_U)
    encoder.model.set_input_embeddings(part)
    yield
    with torch.no_grad():
        whole.weight[ids_U] = part.weight
    encoder.model.set_input_embeddings(whole)


def _only_looked_up(encoder: Encoder, table: nn.Module) -> bool:
    """Whether rows are all that an encoder takes of its embeddings, as far as is known.

    Some families scale what they look up in a class of their own; others share the weights with
    another layer.
    """
    if encoder.model.config.model_type not in PACKED_TYPES or type(table) is not nn.Embedding:
        return False
    names = encoder.model.named_parameters(remove_duplicate=False)
    once = sum(parameter is table.weight for _, parameter in names) == 1
    return once and table.max_norm is None and not table.scale_grad_by_freq and not table.sparse


def _ids(stores: Iterable[FeatureStore], wanted: Iterable[int]) -> np.ndarray[Any, Any]:
    """Every token in these stores, and those wanted beside, ascending, (U,)."""
    seen = np.zeros(1 << TYPE_BITS, dtype=bool)
    seen[list(wanted)] = True
    for store in stores:
        for ids_T in store.ids():
            seen[ids_T] = True
    return np.flatnonzero(seen)
