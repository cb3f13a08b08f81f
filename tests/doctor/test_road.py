"""Which road a model takes, and that a road that is wrong is noticed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from mtlplug.doctor import road
from mtlplug.doctor.checks import BAD, NOTE, OK, Check
from mtlplug.doctor.road import LENGTHS, leaking, model_checks, random_stream
from mtlplug.model import plan
from mtlplug.model.encoder import Encoder
from mtlplug.model.plan import equal_runs
from tests.model.small_encoders import tiny


def checks_of(encoder: Encoder) -> dict[str, Check]:
    """All checks of a model, by name."""
    return {check.name: check for check in model_checks("MODEL", encoder)}


@pytest.mark.parametrize(
    ("model_type", "said"),
    [
        ("bert", "packed: attention interface"),
        ("modernbert", "packed: attention interface"),
        ("roberta", "packed: attention interface"),
        ("deberta-v2", "packed: length buckets"),
    ],
)
def test_a_model_that_packs(model_type: str, said: str) -> None:
    """The road is named and passes; a leak on purpose is noticed."""
    checks = checks_of(Encoder(tiny(model_type), "padded"))
    assert {check.status for check in checks.values()} == {OK}
    assert checks["road"].found == said
    assert checks["packed = padded"].facts["gradient"] < 1e-5
    assert "tolerance 1e-05" in checks["packed = padded"].found
    assert checks["leak control"].facts["difference"] > 1e-2
    assert model_type in checks["model"].found


def test_a_model_that_is_padded() -> None:
    """A family not known to pack is a note; there is nothing to compare but the rest is checked."""
    checks = checks_of(Encoder(tiny("ernie"), "padded"))
    assert checks["road"].status == NOTE
    assert "packed = padded" not in checks
    assert {checks[name].status for name in ("model", "alone = together", "leak control")} == {OK}


def test_a_leak_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    """A packed road on which sequences see each other is bad, and the remedy says not to use it."""

    def runs(lengths: Sequence[int], most: int | None) -> tuple[tuple[int, int], ...]:
        right = equal_runs(lengths, most)
        return tuple((1, count * size) if size == 9 else (count, size) for count, size in right)

    monkeypatch.setattr(plan, "equal_runs", runs)
    checks = checks_of(Encoder(tiny("bert"), "padded"))
    assert checks["packed = padded"].status == BAD
    assert "must not train packed" in checks["packed = padded"].remedy
    assert checks["alone = together"].status == BAD


def test_a_control_that_notices_nothing_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a leak on purpose changes nothing, the comparison proves nothing, which is said."""
    monkeypatch.setattr(road, "leaking", lambda stream, _: stream)
    check = checks_of(Encoder(tiny("bert"), "padded"))["leak control"]
    assert check.status == BAD
    assert "proves nothing" in check.remedy


def test_deeper_models_may_differ_more() -> None:
    """The tolerance grows with the layers above six, and is said."""
    checks = checks_of(Encoder(tiny("bert", num_hidden_layers=12), "padded"))
    assert checks["packed = padded"].facts["tolerance"] == 2 * road.TOLERANCE


@pytest.mark.parametrize("model_type", ["bert", "deberta-v2"])
def test_half_precision_is_near(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a run would choose bf16, that is compared with fp32, loosely."""
    monkeypatch.setattr(road, "default_precision", lambda: "bf16")
    check = checks_of(Encoder(tiny(model_type), "padded"))["bf16 near fp32"]
    assert check.status == OK
    assert 1e-4 < check.facts["hidden"] < 0.1
    monkeypatch.setattr(road, "HALF_TOLERANCE", 1e-6)
    assert checks_of(Encoder(tiny("bert"), "padded"))["bf16 near fp32"].status == BAD


def test_memory_that_does_not_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model too large to train here is a note."""
    monkeypatch.setattr(road, "free_bytes", lambda _: 1000)
    check = checks_of(Encoder(tiny("bert"), "padded"))["model"]
    assert (check.status, "ZeRO" in check.remedy) == (NOTE, True)


def test_random_sequences_suit_the_model() -> None:
    """They are no longer than the model takes, sorted, and hold no padding."""
    encoder = Encoder(tiny("roberta"), "padded")
    stream = random_stream(encoder)
    assert stream.lengths == tuple(min(length, encoder.max_length) for length in LENGTHS)
    assert encoder.model.config.pad_token_id not in stream.ids_T
    assert int(stream.types_T.max()) == 0


@pytest.mark.parametrize("road_name", ["packed", "padded"])
def test_leaking_joins_two_sequences(road_name: str) -> None:
    """Tokens stay; only where sequences start differs, and positions where they must."""
    stream = random_stream(Encoder(tiny("bert"), "padded"))
    wrong = leaking(stream, road_name)
    assert torch.equal(wrong.ids_T, stream.ids_T)
    assert wrong.lengths == (10, *stream.lengths[2:])
    assert wrong.starts_S1.diff().tolist() == list(wrong.lengths)
    counted = list(range(10)) if road_name == "padded" else [*range(5), *range(5)]
    assert wrong.positions_T[:10].tolist() == counted
