"""Operations of an encoder, counted on short sequences, against a pass over longer ones."""

from __future__ import annotations

import numpy as np
import pytest
from torch.utils.flop_counter import FlopCounterMode

from mtlplug.batching.stream import TokenStream
from mtlplug.model.encoder import Encoder
from mtlplug.model.flops import encoder_flops
from tests.model.small_encoders import FAMILIES, PADDED_FAMILIES, tiny


def test_bert_follows_the_formula() -> None:
    """24 N D^2 for a token and 4 N D for a pair, where layers are four times as wide inside."""
    flops = encoder_flops(Encoder(tiny("bert", intermediate_size=128)))
    assert flops.per_token == pytest.approx(24 * 2 * 32**2)
    assert flops.per_pair == pytest.approx(4 * 2 * 32)
    assert flops.pair_cost == pytest.approx(1 / (6 * 32))
    assert flops.forward([1, 3]) == pytest.approx(flops.per_token * 4 + flops.per_pair * 10)


def test_gates_count() -> None:
    """ModernBERT's gated layers make its tokens dearer than BERT's formula says."""
    flops = encoder_flops(Encoder(tiny("modernbert")))
    assert flops.per_token == pytest.approx(2 * 2 * (4 * 32**2 + 3 * 32 * 64))


@pytest.mark.parametrize("model_type", sorted({**FAMILIES, **PADDED_FAMILIES}))
def test_longer_sequences(model_type: str) -> None:
    """Every family: a padded pass over other lengths computes what the count foretells."""
    encoder = Encoder(tiny(model_type, max_position_embeddings=260))
    flops = encoder_flops(encoder)

    def computed(lengths: list[int]) -> int:
        rows = [np.full(length, 5) for length in lengths]
        stream = TokenStream.of(rows, [np.zeros_like(row) for row in rows])
        counter = FlopCounterMode(display=False)
        with encoder.padded("eager"), counter:
            encoder(stream)
        return int(counter.get_total_flops())

    # The difference of two passes is free of what does not depend on the lengths.
    found = computed([200, 200]) - computed([100])
    expected = flops.forward([200, 200]) - flops.forward([100])
    # DeBERTa's first version projects as many positions as the longest sequence has tokens, once.
    assert expected == pytest.approx(found, rel=0.06 if model_type == "deberta" else 1e-6)


def test_counting_changes_nothing() -> None:
    """The encoder takes its own road again, with its own attention."""
    encoder = Encoder(tiny("bert"))
    before = encoder.road, encoder.pad_to, encoder.model.config._attn_implementation
    encoder_flops(encoder)
    assert (encoder.road, encoder.pad_to, encoder.model.config._attn_implementation) == before
