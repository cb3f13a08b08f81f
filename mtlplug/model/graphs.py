"""An encoder's passes in training as CUDA graphs: two launches in place of some two thousand.

A batch of 128 sentences keeps a large GPU busy for a few milliseconds; to launch its kernels one by
one takes the host many times that. A graph launches them all at once, but for one shape only. So
streams are filled up to a few shapes, their *buckets*: filler tokens are sequences of their own
behind the others, which nobody sees and whose gradient is zero.

A bucket's first stream runs as it would without graphs, its second one is recorded. Graphs add
to gradients that lie in one place; ZeRO 2 and 3, which take gradients away during the backward
pass, go without. Dropout draws from torch's generator in either case, and equally much.

Shapes: T tokens of a stream, B tokens of its bucket, D hidden width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.func import functional_call

from mtlplug.batching.stream import TokenStream
from mtlplug.errors import MtlplugError
from mtlplug.model.plan import Plan

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STEPS = 16
"""Buckets between two powers of two: a sixteenth of a stream, or `LEAST` tokens, are filled up at
most."""

LEAST = 64
"""Tokens between two buckets, at least."""

MOST_GRAPHS = 96
"""Buckets that are recorded at most; others run without a graph."""


class Bucket(NamedTuple):
    """What streams are filled up to.

    Attributes:
        tokens: B.
        sequences: filler and empty ones counted.
        longest: tokens of the longest sequence, at least; kernels are launched for so many.
    """

    tokens: int
    sequences: int
    longest: int

    @classmethod
    def of(cls, lengths: tuple[int, ...]) -> Bucket:
        """The smallest bucket for sequences of these lengths.

        >>> Bucket.of((20, 30, 1000))
        Bucket(tokens=1088, sequences=64, longest=1088)
        """
        tokens, longest = sum(lengths), 128
        while longest < max(lengths):
            longest *= 4
        unit = max(LEAST, (1 << (tokens.bit_length() - 1)) // STEPS)
        filled = -(-tokens // unit) * unit
        longest = min(longest, filled)
        sequences = len(lengths) + -(-(filled - tokens) // longest)
        return cls(filled, max(64, 1 << (sequences - 1).bit_length()), longest)


class Recorded(Protocol):
    """Work that can be done again on what then lies in the same memory."""

    def replay(self) -> None:
        """Do it."""


class Pair(NamedTuple):
    """Both passes of a bucket."""

    forward: Recorded
    backward: Recorded


class Graphs:
    """Runs an encoder's passes in training by buckets, recorded where they come again.

    Attributes:
        passes: replayed so far.
        turn: number of the stream that lies where the graphs read.

    Args:
        model: of transformers, with packed attention that reads where sequences lie on the device.
        inputs: its arguments for a stream.
        most_tokens: of a stream; longer ones run as they are.
        record: makes a graph of what a function does.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        inputs: Callable[[TokenStream], dict[str, Any]],
        most_tokens: int,
        record: Callable[[Callable[[], None]], Recorded] | None = None,
    ) -> None:
        self._model, self._inputs = model, inputs
        trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self._parameters = list(trained.values())
        # Other tensors on the same memory. What autograd knows of the parameters themselves
        # belongs to the stream that has trained them so far, and a graph cannot lean on it.
        self._aliases = {name: each.detach().requires_grad_() for name, each in trained.items()}
        self._gradients = [torch.zeros_like(each) for each in self._parameters]
        first = self._parameters[0]
        device = first.device
        self._filler = model.config.pad_token_id or 0
        self._record = record or CudaRecorder(device)
        self._most = Bucket.of((most_tokens,)).tokens
        self._ids_B = torch.zeros(self._most, dtype=torch.int64, device=device)
        self._types_B, self._positions_B = self._ids_B.clone(), self._ids_B.clone()
        self._starts = torch.zeros(self._most + 1, dtype=torch.int32, device=device)
        self._counted = torch.arange(1, self._most + 2, dtype=torch.int32, device=device)
        width = int(model.config.hidden_size)
        self._hidden_BD = torch.zeros(self._most, width, device=device, dtype=first.dtype)
        self._gradient_BD = torch.zeros_like(self._hidden_BD)
        # A function of autograd runs backward where some input of it needs a gradient.
        self._anchor = torch.zeros((), device=device, requires_grad=True)
        self._seen: Counter[Bucket] = Counter()
        self._pairs: dict[Bucket, Pair] = {}
        self.passes = self.turn = 0

    def __call__(self, stream: TokenStream) -> Tensor:
        """Hidden states with their gradient. *Shape:* -> (T, D)."""
        tokens = len(stream.ids_T)
        bucket = Bucket.of(stream.lengths)
        if bucket.tokens > self._most:
            return self._encoded(stream, Plan.of(stream))
        self._seen[bucket] += 1
        self._fill(stream, bucket)
        self.turn += 1
        if self._seen[bucket] == 1 or not (bucket in self._pairs or self._room()):
            return self._encoded(*self._filled(bucket))[:tokens]
        if bucket not in self._pairs:
            self._pairs[bucket] = self._recorded(bucket)
        hidden_TD: Tensor = _Replay.apply(self._anchor, self, bucket, tokens)  # type: ignore[no-untyped-call]
        return hidden_TD

    def _room(self) -> bool:
        return len(self._pairs) < MOST_GRAPHS

    def _encoded(
        self, stream: TokenStream, plan: Plan, weights: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Hidden states, computed with other tensors in the place of parameters where given."""
        arguments = {**self._inputs(stream), "packed_plan": plan}
        output = functional_call(self._model, dict(weights or {}), (), arguments)
        hidden_BD: Tensor = output.last_hidden_state[0]
        return hidden_BD

    def _fill(self, stream: TokenStream, bucket: Bucket) -> None:
        """Lay a stream and its filler where the graphs read."""
        tokens, count = len(stream.ids_T), len(stream.starts_S1)
        for mine_B, theirs_T, filler in (
            (self._ids_B, stream.ids_T, self._filler),
            (self._types_B, stream.types_T, 0),
            (self._positions_B, stream.positions_T, 0),
        ):
            mine_B[:tokens].copy_(theirs_T)
            mine_B[tokens : bucket.tokens].fill_(filler)
        self._starts[:count].copy_(stream.starts_S1)
        # Filler, cut so that no sequence is too long; then empty sequences.
        rest = self._counted[: bucket.sequences + 1 - count] * bucket.longest + tokens
        torch.clamp(rest, max=bucket.tokens, out=self._starts[count : bucket.sequences + 1])

    def _filled(self, bucket: Bucket) -> tuple[TokenStream, Plan]:
        """What lies there, as the encoder takes it; the same memory for all of a bucket."""
        starts, tokens = self._starts[: bucket.sequences + 1], bucket.tokens
        columns = self._ids_B[:tokens], self._types_B[:tokens], self._positions_B[:tokens]
        return TokenStream(*columns, starts, ()), Plan((), starts, bucket.longest)

    def _recorded(self, bucket: Bucket) -> Pair:
        """Both passes as graphs.

        Raises:
            MtlplugError: something in them cannot be part of a graph.
        """
        found: list[Tensor] = []

        def forward() -> None:
            # Where graphs are stood in for, this runs again inside of a function of autograd.
            with torch.enable_grad():
                found[:] = [self._encoded(*self._filled(bucket), self._aliases)]
            self._hidden_BD[: bucket.tokens].copy_(found[0].detach())

        def backward() -> None:
            weights, given_BD = [*self._aliases.values()], self._gradient_BD[: bucket.tokens]
            computed = torch.autograd.grad(found.pop(), weights, given_BD, allow_unused=True)
            pairs = zip(self._gradients, computed, strict=True)
            mine, new = zip(*[pair for pair in pairs if pair[1] is not None], strict=True)
            torch._foreach_add_(mine, new)

        try:
            return Pair(self._record(forward), self._record(backward))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise MtlplugError(
                f"model type '{self._model.config.model_type}' cannot run as a CUDA graph "
                f"({str(error).splitlines()[0]:.200}); start with --no-cuda-graphs, and "
                "--allow-change cuda_graphs where the run has begun"
            ) from error

    def run_forward(self, bucket: Bucket, tokens: int) -> Tensor:
        """Hidden states, valid until the next pass. *Shape:* -> (T, D)."""
        self.passes += 1
        self._pairs[bucket].forward.replay()
        return self._hidden_BD[:tokens].detach()

    def run_backward(self, bucket: Bucket, turn: int, gradient_TD: Tensor) -> None:
        """Add to the parameters' gradients.

        Raises:
            RuntimeError: another pass has begun since, and what this one kept is gone.
        """
        if turn != self.turn:
            raise RuntimeError(
                "an encoder that replays CUDA graphs goes backward before it goes forward again"
            )
        tokens = len(gradient_TD)
        self._claim()
        self._gradient_BD[:tokens].copy_(gradient_TD)
        self._gradient_BD[tokens : bucket.tokens].zero_()
        self._pairs[bucket].backward.replay()

    def _claim(self) -> None:
        """Let the parameters' gradients lie where the graphs add to them."""
        fresh = []
        for parameter, mine in zip(self._parameters, self._gradients, strict=True):
            given = parameter.grad
            if given is None:
                fresh.append(mine)
            elif given.data_ptr() == mine.data_ptr():
                continue
            else:
                mine.copy_(given)
            # Another tensor on the same memory: DeepSpeed may lay the data of this one elsewhere.
            parameter.grad = mine.detach()
        if fresh:
            torch._foreach_zero_(fresh)


class _Replay(torch.autograd.Function):
    """Hidden states out of a graph, whose gradient goes back through another."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, graphs: Graphs, bucket: Bucket, tokens: int) -> Tensor:
        """Replay the forward pass."""
        hidden_TD = graphs.run_forward(bucket, tokens)
        ctx.graphs, ctx.bucket, ctx.turn = graphs, bucket, graphs.turn
        return hidden_TD

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
        """Replay the backward pass."""
        ctx.graphs.run_backward(ctx.bucket, ctx.turn, *gradients)
        return None, None, None, None


class CudaRecorder:
    """Records graphs that share one pool of memory: only one is in use at a time."""

    def __init__(self, device: torch.device) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self, work: Callable[[], None]) -> Recorded:
        """What `work` does, which must not wait for the device."""
        if torch.cuda.mem_get_info()[0] < torch.cuda.memory_reserved():
            # What is kept for passes without a graph is not to be had while one is recorded.
            torch.cuda.empty_cache()
        graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            # Another thread pins memory meanwhile, which other modes forbid.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                work()
            finally:
                graph.capture_end()
        current.wait_stream(self._stream)
        return graph
