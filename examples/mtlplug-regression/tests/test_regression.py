"""Regression keeps the contract."""

import pytest
from mtlplug_regression import Regression

from mtlplug.testing import FormatContract


class TestRegression(FormatContract):
    """Pairs of texts with a score, as in STS-B."""

    format = Regression()
    rows = [
        {"text": "A man plays a guitar.", "text_pair": "A man plays music.", "score": 4.0},
        {"text": "A dog runs.", "text_pair": "The ship is late.", "score": 0.2},
        {"text": "Snow falls.", "text_pair": "It snows.", "score": "5.0"},
        {"text": "A child reads.", "text_pair": "A child writes a letter.", "score": 2.5},
        {"text": "The train left.", "text_pair": "The bus has gone.", "score": 1},
    ]


def test_correlations() -> None:
    """Pearson's is of values, Spearman's of ranks; a constant side gives 0."""
    scores = Regression().metrics(None, [1.0, 2.0, 30.0], [1.0, 2.0, 3.0])
    assert scores == {"pearson": pytest.approx(88.08, abs=0.01), "spearman": pytest.approx(100)}
    assert Regression().metrics(None, [2.0, 2.0], [1.0, 2.0])["pearson"] == 0
