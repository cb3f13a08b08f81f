"""Which encoders read packed streams, and how: the two roads of `mtlplug.model.encoder`."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, NamedTuple

from mtlplug.errors import MtlplugError, unknown
from mtlplug.model.buckets import BUCKETS

if TYPE_CHECKING:
    from transformers import PretrainedConfig

logger = logging.getLogger("mtlplug")

ROADS = ("auto", "packed", "padded")
"""What may be asked for; "auto" is packed wherever that is known to be right."""

INTERFACE_TYPES = frozenset(
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
"""Model types whose attention is replaced through transformers' attention interface."""

BUCKET_TYPES = frozenset(BUCKETS)
"""Model types whose own attention runs on sequences of one length at a time."""

PACKED_TYPES = INTERFACE_TYPES | BUCKET_TYPES
"""Model types whose gradients the tests found equal, packed and padded."""


class Road(NamedTuple):
    """How an encoder reads its sequences.

    Attributes:
        name: "packed" or "padded".
        reason: by what means, or why not.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def road_of(config: PretrainedConfig) -> Road:
    """The road that an encoder takes by itself, and why.

    `str()` of it is one line, such as "packed: attention interface".
    """
    if getattr(config, "is_decoder", False):
        return Road("padded", "a decoder, whose tokens do not see what follows")
    if getattr(config, "talking_head", False):
        return Road("padded", "heads of attention that mix each other's scores")
    if config.model_type in INTERFACE_TYPES:
        return Road("packed", "attention interface")
    if config.model_type in BUCKET_TYPES:
        return Road("packed", "length buckets")
    return Road("padded", "family not known to pack")


def chosen_road(config: PretrainedConfig, road: str) -> str:
    """The road for what was asked, "packed" or "padded"; says once when it cannot be packed.

    Raises:
        MtlplugError: the road is unknown, or the model cannot run packed and was asked to.
    """
    if road not in ROADS:
        raise unknown("road", road, ROADS)
    own = road_of(config)
    if road == "packed" and own.name != "packed":
        raise MtlplugError(
            f"model type '{config.model_type}' cannot run packed ({own.reason}); choose road "
            f"'auto' or 'padded' (packed: encoders of type {', '.join(sorted(PACKED_TYPES))})"
        )
    if road == "auto" and own.name != "packed":
        say_padded(config.model_type, own.reason)
    return own.name if road == "auto" else road


@functools.cache
def say_padded(model_type: str, reason: str) -> None:
    """Once in a process, however often a model is opened."""
    logger.warning(
        "model type '%s' cannot run packed (%s): its sequences are padded to the longest of a "
        "micro-batch, which is slower and gives the same gradients",
        model_type,
        reason,
    )
