"""Checks of a model: which road it takes, and whether that road computes what padding computes.

Shapes: T tokens, D hidden width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtlplug.batching.stream import TokenStream
from mtlplug.doctor.checks import Check, bad, note, ok, size
from mtlplug.model.encoder import Encoder
from mtlplug.model.roads import road_of
from mtlplug.training.deepspeed_config import default_precision
from mtlplug.training.memory import free_bytes

LENGTHS = (5, 5, 9, 9, 9, 30, 64, 130)
"""Tokens of the sequences compared; the longest goes beyond ModernBERT's local attention."""

TOLERANCE, DEPTH = 1e-5, 6
"""Largest relative difference put down to rounding in float32, for models of up to six layers;
in proportion for deeper ones."""

HALF_TOLERANCE = 0.1
"""Largest relative error, in norm, of hidden states and gradients in half precision."""

STATE_BYTES = 16
"""Of a parameter in training: float32 weights, gradient, and AdamW's two moments."""


@dataclass(frozen=True)
class Pass:
    """What one forward and backward pass gives.

    Attributes:
        hidden_TD: hidden states in the stream's order.
        gradients: of every parameter that gets one.
    """

    hidden_TD: Tensor
    gradients: dict[str, Tensor]


@dataclass(frozen=True)
class Gap:
    """How far two passes differ, relative to their largest values.

    Attributes:
        hidden: difference of hidden states.
        gradient: the largest difference of a parameter's gradient.
        parameter: its name.
    """

    hidden: float
    gradient: float
    parameter: str

    @property
    def largest(self) -> float:
        """The larger of both."""
        return max(self.hidden, self.gradient)


def model_checks(name: str, padded: Encoder) -> Iterator[Check]:
    """Check the road that a model takes; on the GPU where there is one.

    Args:
        name: folder or hub id of the model.
        padded: the model on the padded road, which is the reference; it is of no use afterwards.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    padded.to(device).eval()
    yield _model(name, padded)
    stream = random_stream(padded).to(device)
    expected = run(padded, stream)
    encoder = Encoder(padded.model, road_of(padded.model.config).name).eval()
    yield _road(encoder)
    tolerance = TOLERANCE * max(1.0, _layers(padded) / DEPTH)
    together = expected
    if encoder.road != "padded":
        together = run(encoder, stream)
        yield _against_padded(together, stream, expected, tolerance)
    yield _alone(encoder, stream, together.hidden_TD, tolerance)
    yield _leak(encoder, stream, expected, tolerance)
    chosen = default_precision()
    if chosen != "fp32":
        dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[chosen]
        yield _half(encoder, stream, expected, chosen, dtype)


def random_stream(encoder: Encoder, seed: int = 0) -> TokenStream:
    """Sequences of random tokens, with the token types that the model knows, sorted by length."""
    config, random = encoder.model.config, np.random.default_rng(seed)
    lengths = [min(length, encoder.max_length) for length in LENGTHS]
    vocabulary = np.setdiff1d(np.arange(config.vocab_size), [config.pad_token_id or 0])
    types = getattr(config, "type_vocab_size", 1) or 1
    return TokenStream.of(
        [random.choice(vocabulary, length) for length in lengths],
        [random.integers(0, types, length) for length in lengths],
    )


def run(encoder: Encoder, stream: TokenStream) -> Pass:
    """One pass with a loss in which every hidden value counts differently."""
    encoder.zero_grad()
    hidden_TD = encoder(stream)
    draw = torch.Generator().manual_seed(1)
    weights_TD = torch.randn(hidden_TD.shape, generator=draw).to(hidden_TD.device)
    (hidden_TD.float() * weights_TD).mean(1).sum().backward()
    gradients = {
        name: value.grad.float()
        for name, value in encoder.model.named_parameters()
        if value.grad is not None
    }
    return Pass(hidden_TD.detach().float(), gradients)


def gap(found: Pass, expected: Pass) -> Gap:
    """How far a pass is from the expected one.

    A gradient's difference is relative to its own largest value, or to a hundredth of the
    largest of all: a key's bias has none but rounding, as softmax ignores it.
    """
    floor = 0.01 * max(float(value.abs().max()) for value in expected.gradients.values())
    worst = (0.0, "")
    for name, value in expected.gradients.items():
        ours = found.gradients.get(name, torch.zeros_like(value))
        error = float((ours - value).abs().nan_to_num(torch.inf).max())
        worst = max(worst, (error / max(float(value.abs().max()), floor), name))
    return Gap(_relative(found.hidden_TD, expected.hidden_TD), *worst)


def _layers(encoder: Encoder) -> int:
    return int(getattr(encoder.model.config, "num_hidden_layers", DEPTH))


def _relative(found_TD: Tensor, expected_TD: Tensor) -> float:
    difference_TD = (found_TD - expected_TD).abs().nan_to_num(torch.inf)
    return float(difference_TD.max() / expected_TD.abs().max())


def _model(name: str, encoder: Encoder) -> Check:
    """The model's size, and whether there is memory to train it."""
    config, device = encoder.model.config, next(encoder.parameters()).device
    count = sum(value.numel() for value in encoder.parameters())
    needed = count * STATE_BYTES
    found = (
        f"{name}: {config.model_type}, {count / 1e6:.1f} million parameters, "
        f"{_layers(encoder)} layers, up to {encoder.max_length} tokens; training takes "
        f"{size(needed)} and the activations"
    )
    facts = {"type": config.model_type, "parameters": count, "training_bytes": needed}
    free = free_bytes(device)
    if free is not None and free < needed:
        remedy = "take a smaller model, or more ranks with ZeRO-1 to 3, which share this"
        return note("model", f"{found}, but {size(free)} are free", remedy, **facts)
    return ok("model", found, **facts)


def _road(encoder: Encoder) -> Check:
    """Which road the model takes, and why."""
    road = road_of(encoder.model.config)
    if road.name == "packed":
        return ok("road", str(road), road=road.name, reason=road.reason)
    remedy = "slower, with the same gradients; BERT, RoBERTa and their relatives run packed"
    return note("road", str(road), remedy, road=road.name, reason=road.reason)


def _against_padded(packed: Pass, stream: TokenStream, expected: Pass, tolerance: float) -> Check:
    """The central comparison: hidden states and gradients of both roads."""
    found = gap(packed, expected)
    facts = {**dataclasses.asdict(found), "tolerance": tolerance}
    said = (
        f"{len(stream)} random sequences of {min(stream.lengths)} to {max(stream.lengths)} tokens "
        f"in fp32 on {stream.ids_T.device.type}: hidden states differ by {found.hidden:.1e}, "
        f"gradients by {found.gradient:.1e} (relative, tolerance {tolerance:.0e})"
    )
    if found.largest <= tolerance:
        return ok("packed = padded", said, **facts)
    remedy = "this model must not train packed: please report it, with its config.json"
    return bad("packed = padded", f"{said}, most in {found.parameter or 'none'}", remedy, **facts)


@torch.no_grad()
def _alone(encoder: Encoder, stream: TokenStream, together_TD: Tensor, tolerance: float) -> Check:
    """Whether a sequence has the same hidden states alone and among others."""
    ids, types = (
        torch.split(each, list(stream.lengths)) for each in (stream.ids_T, stream.types_T)
    )
    worst = 0.0
    for index in {0, len(stream) // 2, len(stream) - 1}:
        alone = TokenStream.of([ids[index].cpu().numpy()], [types[index].cpu().numpy()])
        mine = torch.split(together_TD, list(stream.lengths))[index]
        worst = max(worst, _relative(encoder(alone.to(stream.ids_T.device)), mine))
    found = f"a sequence alone and among others: hidden states differ by {worst:.1e}"
    if worst <= tolerance:
        return ok("alone = together", found, difference=worst)
    remedy = "sequences see each other: please report it, with the model's config.json"
    return bad("alone = together", found, remedy, difference=worst)


def _leak(encoder: Encoder, stream: TokenStream, expected: Pass, tolerance: float) -> Check:
    """Whether the comparison notices two sequences that see each other."""
    found = gap(run(encoder, leaking(stream, encoder.road)), expected).largest
    said = f"two sequences that see each other, on purpose, differ by {found:.1e}"
    if found > 10 * tolerance:
        return ok("leak control", f"{said}: noticed", difference=found)
    remedy = "the comparison above proves nothing for this model: its weights may be degenerate"
    return bad("leak control", f"{said}: not noticed", remedy, difference=found)


def leaking(stream: TokenStream, road: str) -> TokenStream:
    """The same tokens with the first two sequences declared as one.

    On the packed road positions stay as they were, so that attention alone is wrong; the padded
    road lays tokens out by them, so there they count on.
    """
    first, second, *others = stream.lengths
    lengths = (first + second, *others)
    starts_S1 = torch.cat([stream.starts_S1[:1], stream.starts_S1[2:]])
    positions_T = stream.positions_T.clone()
    if road == "padded":
        positions_T[first : first + second] += first
    return TokenStream(stream.ids_T, stream.types_T, positions_T, starts_S1, lengths)


def _half(
    encoder: Encoder, stream: TokenStream, expected: Pass, name: str, dtype: torch.dtype
) -> Check:
    """Whether half precision is near float32; the encoder keeps it."""
    found = run(encoder.to(dtype), stream)
    hidden = float((found.hidden_TD - expected.hidden_TD).norm() / expected.hidden_TD.norm())
    names = list(expected.gradients)
    ours, theirs = (
        torch.cat([each.gradients[name].flatten() for name in names]) for each in (found, expected)
    )
    gradient = float((ours - theirs).norm() / theirs.norm())
    facts = {"hidden": hidden, "gradient": gradient, "tolerance": HALF_TOLERANCE}
    said = f"hidden states differ by {hidden:.1e}, gradients by {gradient:.1e} from fp32 (in norm)"
    if max(hidden, gradient) <= HALF_TOLERANCE:
        return ok(f"{name} near fp32", said, **facts)
    remedy = "choose another with --precision"
    return bad(f"{name} near fp32", f"{said}, above {HALF_TOLERANCE}", remedy, **facts)
