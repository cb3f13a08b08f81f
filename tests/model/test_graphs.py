"""Replayed passes: what they compute, when they are recorded, and what they refuse."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlplug.batching.stream import TokenStream
from mtlplug.errors import MtlplugError
from mtlplug.model import graphs as graphs_module
from mtlplug.model import kernels
from mtlplug.model.encoder import Encoder
from mtlplug.model.graphs import LEAST, STEPS, Bucket, Graphs
from tests.model.small_encoders import SORTED, gradients, inputs, reference, tiny

FAMILIES = ("bert", "roberta", "xlm-roberta", "electra", "modernbert", "albert", "distilbert")
MOST = 1024


class Again:
    """Stands in for a graph: does the work again."""

    made = 0

    def __init__(self, work: Callable[[], None]) -> None:
        self.replay = work
        Again.made += 1


def replaying(model: torch.nn.Module, most: int = MOST) -> Encoder:
    """An encoder with graphs that need no GPU."""
    Again.made = 0
    encoder = Encoder(copy.deepcopy(model), "packed").train()
    encoder._graphs = Graphs(encoder.model, encoder._inputs, most, record=Again)
    return encoder


@pytest.fixture(autouse=True)
def flash(monkeypatch: pytest.MonkeyPatch, cuda_operators: list[str]) -> list[str]:
    """The kernel that graphs are made for, on the CPU."""
    monkeypatch.setattr(kernels, "kernel_name", lambda *_: "flash")
    return cuda_operators


def trained(encoder: Encoder, streams: Sequence[TokenStream]) -> tuple[list[Tensor], list[Tensor]]:
    """Hidden states of each stream, and the parameters' gradients over all."""
    hidden = []
    for number, stream in enumerate(streams):
        hidden_TD = encoder(stream)
        generator = torch.Generator().manual_seed(number)
        weights_TD = torch.randn(hidden_TD.shape, generator=generator).to(hidden_TD)
        (hidden_TD * weights_TD).sum().backward()
        hidden.append(hidden_TD.detach().clone())
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in encoder.model.parameters()]
    return hidden, grads


def stream_of(model: torch.nn.Module, lengths: Sequence[int]) -> TokenStream:
    """Random sequences of these lengths."""
    return TokenStream.of(*inputs(model, lengths))


@pytest.mark.parametrize("family", FAMILIES)
def test_replayed_gradients(family: str) -> None:
    """Three passes, two of them replayed, give three times the padded pass's gradient."""
    model = tiny(family, initializer_range=0.05)
    ids, types = inputs(model, SORTED)
    expected_TD = reference(model, ids, types, "eager")
    expected = gradients(model, expected_TD)
    floor = 0.01 * max(float(value.abs().max()) for value in expected.values())
    weights_TD = torch.randn(expected_TD.shape, generator=torch.Generator().manual_seed(1))
    encoder = replaying(model)
    for _ in range(3):
        hidden_TD = encoder(TokenStream.of(ids, types))
        (hidden_TD * weights_TD).sum().backward()
        assert torch.allclose(hidden_TD, expected_TD, atol=1e-5)
    assert Again.made == 2
    for name, value in encoder.model.named_parameters():
        error = float((value.grad / 3 - expected[name]).abs().max())
        assert error / max(float(expected[name].abs().max()), floor) < 1e-5, name


def test_buckets_share_memory() -> None:
    """Streams of several buckets in turn, in steps of one or more, as without graphs."""
    model = tiny("bert")
    shapes = [(3, 5), (60, 64), (4, 4), (50, 50, 20), (9,), (64, 60)]
    streams = [stream_of(model, lengths) for lengths in shapes]
    plain = Encoder(copy.deepcopy(model), "packed").train()
    encoder = replaying(model)
    for part in (streams[:1], streams[1:3], streams[3:], streams):
        found, expected = trained(encoder, part), trained(plain, part)
        for mine, theirs in zip(found, expected, strict=True):
            for one, other in zip(mine, theirs, strict=True):
                assert torch.allclose(one, other, atol=1e-5)
        encoder.zero_grad()
        plain.zero_grad()
    assert Again.made == 4  # two buckets


def test_gradients_that_are_there_are_added_to() -> None:
    """A head that borrowed a parameter came first, and whoever holds the gradient may move it."""
    model = tiny("bert")
    encoder = replaying(model)
    stream = stream_of(model, SORTED)
    _, expected = trained(encoder, [stream])
    expected = [each.clone() for each in expected]
    parameters = list(encoder.model.parameters())
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        _, found = trained(encoder, [stream])
        for one, other in zip(found, expected, strict=True):
            assert torch.allclose(one, other + 1, atol=1e-5)
        parameters[0].grad.data = torch.zeros(3)  # as DeepSpeed does where it joins gradients


def test_filler_is_not_seen() -> None:
    """Another filler changes nothing, bit for bit."""
    model = tiny("bert")
    stream = stream_of(model, SORTED)
    results = []
    for filler in (0, 7):
        encoder = replaying(model)
        encoder._graphs._filler = filler
        results.append(trained(encoder, [stream] * 2))
    for one, other in zip(*results, strict=True):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))


def test_what_lies_in_one_sequence_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison fails where filler belongs to the last sequence."""
    model = tiny("bert")
    stream = stream_of(model, SORTED)
    expected, _ = trained(Encoder(copy.deepcopy(model), "packed").train(), [stream])
    fill = Graphs._fill

    def leaky(self: Graphs, stream: TokenStream, bucket: Bucket) -> None:
        fill(self, stream, bucket)
        self._starts[len(stream)] = bucket.tokens

    monkeypatch.setattr(Graphs, "_fill", leaky)
    found, _ = trained(replaying(model), [stream])
    assert float((found[0] - expected[0]).abs().max()) > 1e-3


def test_long_streams_and_evaluation_go_without() -> None:
    """Beyond the most tokens, and without gradients, nothing is filled up."""
    model = tiny("bert")
    encoder = replaying(model, most=64)
    long = stream_of(model, [60, 60])
    trained(encoder, [long] * 3)
    with torch.no_grad():
        encoder(stream_of(model, SORTED))
    encoder.eval()
    trained(encoder, [stream_of(model, [5])] * 3)
    assert Again.made == 0
    assert not encoder._graphs._seen


def test_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are enough graphs, other buckets run without."""
    monkeypatch.setattr(graphs_module, "MOST_GRAPHS", 1)
    model = tiny("bert")
    encoder = replaying(model)
    trained(encoder, [stream_of(model, [5]), stream_of(model, [50, 50])] * 3)
    assert Again.made == 2


def test_two_passes_at_once_are_refused() -> None:
    """The second pass would lie where the first one's is."""
    model = tiny("bert")
    encoder = replaying(model)
    stream = stream_of(model, [5, 9])
    trained(encoder, [stream] * 2)
    seldom = stream_of(model, [60] * 5)  # in a bucket of its own, which is not recorded yet
    for second in (stream, seldom):
        first, _ = encoder(stream), encoder(second)
        with pytest.raises(RuntimeError, match="before it goes forward again"):
            first.sum().backward()


@given(st.lists(st.integers(1, 600), min_size=1, max_size=300))
def test_bucket(lengths: list[int]) -> None:
    """There is room for everything and little more."""
    bucket, tokens = Bucket.of(tuple(lengths)), sum(lengths)
    filler = bucket.tokens - tokens
    assert 0 <= filler < max(LEAST, tokens / STEPS)
    assert max(lengths) <= bucket.longest <= bucket.tokens
    assert len(lengths) + np.ceil(filler / bucket.longest) <= bucket.sequences
    assert bucket.sequences < max(65, 2 * len(lengths) + 2)


def test_what_cannot_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says how to go on."""

    def refuse(work: Callable[[], None]) -> None:
        raise RuntimeError("CUDA error: operation not permitted\nand more")

    model = tiny("bert")
    encoder = replaying(model)
    monkeypatch.setattr(encoder._graphs, "_record", refuse)
    stream = stream_of(model, [5])
    trained(encoder, [stream])
    with pytest.raises(MtlplugError, match=r"'bert' .* not permitted\); .*--no-cuda-graphs"):
        encoder(stream)


def test_no_graphs_without_a_gpu() -> None:
    """On a CPU, on buckets of lengths and with checkpointing there are none."""
    assert not Encoder(tiny("mpnet"), "packed").use_graphs(MOST)
    assert not Encoder(tiny("bert"), "packed", gradient_checkpointing=True).use_graphs(MOST)
    assert not Encoder(tiny("bert"), "padded").use_graphs(MOST)


@pytest.mark.gpu
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-2), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "modernbert"])
def test_cuda_graphs(
    family: str,
    dtype: torch.dtype,
    tolerance: float,
    dropout: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A replayed pass computes, and draws, what the same pass does without a graph."""
    monkeypatch.undo()  # the real kernels
    rates = {"attention_probs_dropout_prob": dropout, "hidden_dropout_prob": dropout}
    if family == "modernbert":
        rates = {"attention_dropout": dropout, "mlp_dropout": dropout}
    model = tiny(family, initializer_range=0.05, **rates)
    encoder = Encoder(copy.deepcopy(model).to("cuda", dtype), "packed").train()
    assert encoder.use_graphs(MOST)
    streams = [
        stream_of(model, lengths).to(torch.device("cuda"))
        for lengths in (SORTED, (60, 62, 60), (9,))
    ]
    results = []
    for _ in range(3):  # without a graph, recorded, replayed
        torch.manual_seed(5)
        results.append(trained(encoder, streams))
        results[-1] = (results[-1][0], [each.clone() for each in results[-1][1]])
        encoder.zero_grad()
    assert encoder._graphs.passes == 6
    largest = max(float(each.abs().max()) for each in results[0][1])
    for replayed in results[1:]:
        for one, other in zip(results[0], replayed, strict=True):
            for mine, theirs in zip(one, other, strict=True):
                assert float((mine - theirs).abs().max()) < tolerance * max(1.0, largest)
