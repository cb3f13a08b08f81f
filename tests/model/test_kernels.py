"""Attention kernels: which one is taken, and that all compute the same."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mtlplug.batching.stream import TokenStream
from mtlplug.model import kernels
from mtlplug.model.encoder import Encoder
from mtlplug.model.kernels import Gpu, attend, efficient, flash, gpu_of, kernel_name, runs
from mtlplug.model.plan import Plan
from mtlplug.model.roads import BUCKET_TYPES
from tests.model.small_encoders import SORTED, gradients, inputs, reference, tiny, worst

AMPERE, VOLTA = Gpu((8, 0), True), Gpu((7, 0), True)
HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32
STREAM = TokenStream.of(*inputs(tiny("bert"), SORTED))
TOKENS = sum(SORTED)


@pytest.mark.parametrize(
    ("gpu", "dtype", "width", "banded", "dropout", "name"),
    [
        (AMPERE, HALF, 64, False, False, "flash"),
        (AMPERE, BRAIN, 32, True, False, "flash"),
        (AMPERE, HALF, 192, False, False, "flash"),
        (AMPERE, FULL, 64, False, False, "efficient"),
        (AMPERE, FULL, 64, True, False, "runs"),
        (AMPERE, FULL, 64, False, True, "runs"),
        (AMPERE, HALF, 64, False, True, "flash"),
        (VOLTA, HALF, 64, False, True, "runs"),
        (AMPERE, HALF, 200, False, False, "efficient"),
        (AMPERE, HALF, 264, True, False, "runs"),
        (AMPERE, HALF, 20, False, False, "runs"),
        (AMPERE, FULL, 20, False, False, "runs"),
        (AMPERE, torch.float64, 64, False, False, "runs"),
        (AMPERE._replace(flash=False), HALF, 64, False, False, "efficient"),
        (AMPERE._replace(flash=False), HALF, 64, True, False, "runs"),
        (Gpu((9, 0), True), BRAIN, 64, False, False, "flash"),
        (Gpu((12, 0), True), BRAIN, 64, False, False, "flash"),
        (VOLTA, HALF, 64, False, False, "efficient"),
        (VOLTA, FULL, 64, False, False, "efficient"),
        (VOLTA, HALF, 64, True, False, "runs"),
        (VOLTA, BRAIN, 64, False, False, "runs"),
        (Gpu((6, 1), True), FULL, 64, False, False, "runs"),
        (None, HALF, 64, False, False, "runs"),
        (None, FULL, 64, False, False, "runs"),
    ],
)
def test_choice(
    gpu: Gpu | None, dtype: torch.dtype, width: int, banded: bool, dropout: bool, name: str
) -> None:
    """The device, the precision, the width of a head, the window and dropout decide."""
    assert kernel_name(gpu, dtype, width, banded, dropout) == name


def test_gpu_of() -> None:
    """Only a CUDA device of NVIDIA's counts as a GPU here."""
    assert gpu_of(torch.device("cpu")) is None
    assert gpu_of(torch.device("meta")) is None


def with_gradients(kernel: kernels.Kernel, plan: Plan, window: int | None) -> list[Tensor]:
    """What a kernel makes of random values, and the gradients of those."""
    random = torch.Generator().manual_seed(0)
    values = torch.randn(4, TOKENS, 2, 8, generator=random, dtype=torch.float64)
    streams = [values[number].clone().requires_grad_() for number in range(3)]
    out = kernel(*streams, plan, 0.3, 0.0, window)
    return [out.detach(), *torch.autograd.grad(out, streams, values[3])]


@pytest.mark.parametrize(
    ("kernel", "window"), [(flash, None), (flash, 2), (flash, 12), (efficient, None)]
)
def test_cuda_kernels_equal_runs(
    kernel: kernels.Kernel, window: int | None, cuda_operators: list[str]
) -> None:
    """What the CUDA operators are handed gives the attention and gradients of the CPU's kernel."""
    plan = Plan.of(STREAM)
    expected = with_gradients(runs, plan, window)
    found = with_gradients(kernel, plan, window)
    assert cuda_operators == [kernel.__name__, f"{kernel.__name__} backward"]
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("change", ["starts", "window"])
def test_other_sequences_or_windows_are_noticed(change: str, cuda_operators: list[str]) -> None:
    """The same comparison fails for a window one wider, or two sequences taken for one."""
    plan = Plan.of(STREAM)
    expected = with_gradients(runs, plan, 3)
    if change == "starts":
        starts_S1 = torch.cat([plan.starts_S1[:3], plan.starts_S1[4:]])
        plan = Plan(plan.runs, starts_S1, plan.longest)
    found = with_gradients(flash, plan, 3 if change == "starts" else 4)
    assert all(
        float((one - other).abs().max()) > 1e-3 for one, other in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("bert", "flash"),
        ("bert", "efficient"),
        ("modernbert", "flash"),
        ("xlm-roberta", "efficient"),
    ],
)
def test_encoders_on_cuda_kernels(
    model_type: str, name: str, cuda_operators: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole encoders give the gradients of the padded forward through the CUDA kernels."""
    monkeypatch.setattr(kernels, "kernel_name", lambda *_: name)
    assert worst(tiny(model_type), "packed", SORTED) < 1e-5
    assert cuda_operators.count(name) == cuda_operators.count(f"{name} backward") == 2


@pytest.mark.parametrize(("longest", "name"), [(64, "efficient"), (31, "efficient"), (30, "runs")])
def test_window_that_all_fit_in(longest: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window no shorter than the longest sequence is none, and decides on no kernel."""
    taken = []

    def record(kind: str) -> Callable[..., Tensor]:
        def kernel(query: Tensor, *rest: Any) -> Tensor:
            taken.append((kind, rest[-1]))
            return query

        return kernel

    monkeypatch.setattr(kernels, "gpu_of", lambda device: AMPERE)
    monkeypatch.setattr(kernels, "KERNELS", {kind: record(kind) for kind in kernels.KERNELS})
    stream_THE = torch.zeros(TOKENS, 2, 8)
    attend(stream_THE, stream_THE, stream_THE, Plan.of(STREAM), scaling=1.0, window=longest)
    assert taken == [(name, None if name == "efficient" else longest)]


class Calls(TorchDispatchMode):
    """Notes the operators called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.names.append(function._schema.name)
        return function(*args, **(kwargs or {}))


# Tensors on the meta device hold nothing: asking one for a value raises. (Fake tensors on CUDA
# cannot do as much where torch is built without CUDA: they cannot even be indexed.)
META = STREAM.to(torch.device("meta"))

CUDA_CASES = [
    ("bert", HALF, AMPERE, "flash"),
    ("modernbert", BRAIN, AMPERE, "flash"),
    ("roberta", FULL, AMPERE, "efficient"),
    ("electra", HALF, VOLTA, "efficient"),
    ("modernbert", FULL, AMPERE, "softmax"),
    ("albert", HALF, None, "softmax"),
]


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(("model_type", "dtype", "gpu", "name"), CUDA_CASES)
def test_no_forward_waits_for_a_device(
    model_type: str,
    dtype: torch.dtype,
    gpu: Gpu | None,
    name: str,
    dropout: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A forward pass over tensors that hold nothing never asks for a value."""
    monkeypatch.setattr(kernels, "gpu_of", lambda device: gpu)
    model = tiny(model_type, attention_probs_dropout_prob=dropout).to("meta", dtype)
    with torch.no_grad(), Calls() as calls:
        hidden_TD = Encoder(model, "packed").train()(META)
    assert (hidden_TD.shape, hidden_TD.dtype) == ((TOKENS, 32), dtype)
    if dropout and name == "efficient":  # must not drop weights
        name = "softmax"
    assert any(name in called for called in calls.names)


@pytest.mark.parametrize("model_type", ["bert", "modernbert", *sorted(BUCKET_TYPES)])
def test_no_step_waits_for_a_device(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a forward and backward pass."""
    monkeypatch.setattr(kernels, "gpu_of", lambda device: AMPERE)
    model = tiny(model_type, attention_probs_dropout_prob=0.1)
    encoder = Encoder(model.to("meta", HALF), "packed").train()
    with Calls() as calls:
        encoder(META).sum().backward()
    assert all(value.grad.shape == value.shape for value in encoder.parameters())
    forward, backward = (f"aten::_flash_attention_{which}" for which in ("forward", "backward"))
    times = 0 if model_type in BUCKET_TYPES else 2
    assert calls.names.count(forward) == calls.names.count(backward) == times


def test_waiting_for_a_device_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both checks fail for a plan that asks the device for the longest sequence."""
    of = Plan.of
    monkeypatch.setattr(
        Plan, "of", lambda stream: Plan(of(stream).runs, stream.starts_S1, int(stream.starts_S1[1]))
    )
    encoder = Encoder(tiny("bert").to("meta"), "packed")
    with pytest.raises(RuntimeError, match="cannot be called on meta tensors"):
        encoder(META)


@pytest.mark.parametrize(("length", "written_out"), [(8, True), (128, True), (129, False)])
def test_cpu_with_amx(length: int, written_out: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In half precision with AMX, attention over short sequences is written out; same values."""
    stream_THE = torch.randn(length, 2, 8)
    plan = Plan(((1, length),), torch.tensor([0, length], dtype=torch.int32), length)
    for dtype, amx, matmul in (
        (FULL, True, False),
        (BRAIN, False, False),
        (BRAIN, True, written_out),
    ):
        monkeypatch.setattr(kernels, "_has_amx", lambda amx=amx: amx)
        values = stream_THE.to(dtype)
        with Calls() as calls:
            out = attend(values, values, values, plan, scaling=0.3)
        assert ("aten::bmm" in calls.names) == matmul
        exact = runs(*[stream_THE.double()] * 3, plan, 0.3, 0.0, None)
        assert torch.allclose(out.double(), exact, atol=1e-5 if dtype == FULL else 0.03)


@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_dropped_weights(threads: int, dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many weights are dropped as asked, the others grow in proportion, for any threads."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    torch.manual_seed(0)
    length = 200
    query = torch.zeros(length, 3, length)
    # Values that show the weights: with equal scores each is 1 / L.
    value = torch.eye(length)[:, None].expand(length, 3, length)
    plan = Plan(((1, length),), torch.tensor([0, length], dtype=torch.int32), length)
    weights = runs(query, query, value, plan, 1.0, dropout, None) * length
    dropped = weights == 0.0
    assert abs(float(dropped.float().mean()) - dropout) < 0.005
    assert torch.allclose(weights[~dropped], torch.tensor(1 / (1 - dropout)), rtol=1e-4)
    # Neighbours share the 64 bits of a draw and must not share their fate.
    pairs = dropped.flatten()[:-1] & dropped.flatten()[1:]
    assert abs(float(pairs.float().mean()) - dropout**2) < 0.005


def gpu(*values: Any) -> Any:
    """A case that runs only where there is a CUDA device."""
    return pytest.param(*values, marks=pytest.mark.gpu)


@pytest.mark.parametrize(
    ("model_type", "dtype", "tolerance"),
    [
        gpu(model_type, dtype, tolerance)
        for model_type in ("bert", "xlm-roberta", "modernbert", *sorted(BUCKET_TYPES))
        for dtype, tolerance in ((FULL, 1e-4), (HALF, 2e-2), (BRAIN, 1e-1))
    ],
)
def test_cuda_equals_padded(model_type: str, dtype: torch.dtype, tolerance: float) -> None:
    """On CUDA a step's hidden states and gradients are those of float32, padded, on the CPU."""
    model = tiny(model_type, initializer_range=0.05)
    ids, types = inputs(model, SORTED)
    expected_TD = reference(model, ids, types, "eager")
    expected = gradients(model, expected_TD)
    encoder = Encoder(copy.deepcopy(model).to("cuda", dtype), "packed")
    stream = TokenStream.of(ids, types).to(torch.device("cuda"))
    weights_TD = torch.randn(expected_TD.shape, generator=torch.Generator().manual_seed(1))
    weights_TD = weights_TD.cuda()
    encoder(stream)  # the first pass makes handles and tables
    torch.cuda.set_sync_debug_mode("error")
    try:
        hidden_TD = encoder(stream)
        (hidden_TD.float() * weights_TD).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    floor = 0.01 * max(float(value.abs().max()) for value in expected.values())
    assert torch.allclose(hidden_TD.float().cpu(), expected_TD, atol=tolerance * 3)
    for name, value in encoder.model.named_parameters():
        error = float((value.grad.float().cpu() - expected[name]).abs().max())
        assert error / max(float(expected[name].abs().max()), floor) < tolerance * 3, name


@pytest.mark.parametrize(
    ("dtype", "window"), [gpu(HALF, None), gpu(BRAIN, 4), gpu(FULL, None), gpu(FULL, 4)]
)
def test_cuda_dropout(dtype: torch.dtype, window: int | None) -> None:
    """On CUDA attention with dropout has the mean of attention without, and draws anew."""
    torch.manual_seed(0)
    plan = Plan.of(STREAM.to(torch.device("cuda")))
    streams = torch.randn(3, TOKENS, 2, 32, device="cuda", dtype=dtype)
    exact = attend(*streams, plan, scaling=0.2, window=window)
    draws = [attend(*streams, plan, scaling=0.2, dropout=0.3, window=window) for _ in range(2000)]
    assert not torch.allclose(draws[0], exact, atol=0.1)
    assert torch.allclose(torch.stack(draws).float().mean(0), exact.float(), atol=0.15)


@pytest.mark.parametrize(
    ("device", "dtype"),
    [("cpu", FULL), gpu("cuda", FULL), gpu("cuda", HALF), gpu("cuda", BRAIN)],
)
def test_gradient_with_dropout(device: str, dtype: torch.dtype) -> None:
    """The backward pass drops the weights that the forward pass dropped."""
    length, count, rate = 32, 3, 0.3
    starts = torch.arange(0, (count + 1) * length, length, dtype=torch.int32, device=device)
    plan = Plan(((count, length),), starts, length)
    torch.manual_seed(0)
    values = torch.randn(4, count * length, 2, length, device=device, dtype=dtype)
    streams = [values[number].clone().requires_grad_() for number in range(3)]

    def drawn(value: Tensor) -> Tensor:
        torch.manual_seed(7)
        return attend(streams[0], streams[1], value, plan, scaling=0.2, dropout=rate)

    found = torch.autograd.grad((drawn(streams[2]) * values[3]).sum(), streams)
    # With these values the output is the weights themselves, (T, H, L).
    shown = torch.eye(length, device=device, dtype=dtype)[:, None].expand(length, 2, length)
    kept = (drawn(shown.repeat(count, 1, 1)) != 0).view(count, length, 2, length).transpose(1, 2)
    assert 0.6 < float(kept.float().mean()) < 0.8
    full = [each.detach().float().requires_grad_() for each in streams]
    query, key, value = (each.view(count, length, 2, length).transpose(1, 2) for each in full)
    weights = (query @ key.transpose(-1, -2) * 0.2).softmax(-1) * kept / (1 - rate)
    out = (weights @ value).transpose(1, 2).reshape(count * length, 2, length)
    expected = torch.autograd.grad((out * values[3].float()).sum(), full)
    tolerance = 1e-4 if dtype == FULL else 0.03
    for one, other in zip(found, expected, strict=True):
        assert float((one.float() - other).norm() / other.norm()) < tolerance
