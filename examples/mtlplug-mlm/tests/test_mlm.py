"""Masked-language modelling keeps the contract, with a decoder that is the encoder's."""

import numpy as np
import pytest
import torch
from mtlplug_mlm import MaskedLanguageModelling

from mtlplug.testing import FormatContract
from mtlplug.testing.specimen import packed


class TestMaskedLanguageModelling(FormatContract):
    """Texts and pairs of texts, two copies of each. All stages: the embeddings are used twice."""

    format = MaskedLanguageModelling()
    task = {"options": {"copies": 2}}
    stages = ("0", "1", "2", "3")
    rows = [
        {"text": "Anna goes to the market on Monday and buys bread ."},
        {"text": "On Friday the boat comes back .", "text_pair": "The harbour is full ."},
        {"text": "Ben writes a long letter to Clara in the evening ."},
        {"text": ["Snow", "lay", "on", "the", "hills"]},
    ]

    def test_the_embeddings_are_the_encoders_alone(self) -> None:
        """They are no parameter of the head, and both uses add to their one gradient."""
        model, data = self.specimen.model(), self.specimen.data
        embeddings = model.encoder.model.get_input_embeddings().weight
        assert [each for _, each in model.loans()] == [embeddings]
        assert all(each is not embeddings for each in model.heads[0].parameters())
        assert sum(each is embeddings for each in model.parameters()) == 1

        def gradient(**lent: torch.Tensor) -> torch.Tensor:
            model.zero_grad()
            model._borrowed = (lent or {"input_embeddings": embeddings},)
            model(packed(data)).loss.backward()
            return embeddings.grad.clone()

        both, reading = gradient(), gradient(input_embeddings=embeddings.detach())
        assert (both - reading).abs().max() > 1e-3
        unseen = sorted(set(range(len(embeddings))) - set(packed(data).stream.ids_T.tolist()))
        assert reading[unseen].abs().max() == 0  # decoding reaches tokens that no text holds
        assert both[unseen].abs().min() > 0


def test_masks() -> None:
    """Each copy hides other tokens, as many as the rate says, and targets are what was there."""
    contract = TestMaskedLanguageModelling()
    contract.setup_class()
    try:
        specimen = contract.specimen
        features = specimen.features(specimen.placed())
        tokenizer = specimen.builder().tokenizer
    finally:
        contract.teardown_class()
    assert len(features) == 2 * len(contract.rows)
    copies = list(zip(features[::2], features[1::2], strict=True))
    for one, two in copies:
        plain = []
        for feature in (one, two):
            (encoded,) = feature.sequences
            assert (encoded.ids[feature.reads] == tokenizer.mask_token_id).all()
            texts = sum(segment is not None for segment in encoded.segments)
            assert len(feature.reads) == max(1, round(0.15 * texts))
            ids = encoded.ids.copy()
            ids[feature.reads] = feature.target
            plain.append(ids)
        assert np.array_equal(*plain)
    assert any(not np.array_equal(one.reads, two.reads) for one, two in copies)


def test_factorised_embeddings_are_refused() -> None:
    """An encoder whose embeddings are narrower is named as the reason."""
    head = MaskedLanguageModelling().head(None, 8)
    with pytest.raises(Exception, match="8; this encoder's are 4 wide"):
        head(torch.zeros(2, 8), None, input_embeddings=torch.zeros(10, 4))
