"""The encoder over packed streams against transformers' own padded forward."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModel, PreTrainedTokenizerFast

from mtlplug.batching.stream import TokenStream
from mtlplug.errors import MtlplugError
from mtlplug.model import buckets, kernels, plan
from mtlplug.model.attention import NAME, packed_attention
from mtlplug.model.encoder import Encoder
from mtlplug.model.plan import Plan, equal_runs
from mtlplug.model.roads import BUCKET_TYPES, INTERFACE_TYPES, PACKED_TYPES, road_of, say_padded
from tests.model.small_encoders import (
    FAMILIES,
    LENGTHS,
    PADDED_FAMILIES,
    SORTED,
    VARIANTS,
    gradients,
    inputs,
    reference,
    sequences,
    tiny,
    variant,
    worst,
)


def test_every_packed_type_is_tested() -> None:
    """The types that run packed by default are those the tests below compare."""
    assert set(FAMILIES) == PACKED_TYPES


@pytest.mark.parametrize("lengths", [LENGTHS, SORTED], ids=["permuted", "sorted"])
@pytest.mark.parametrize(
    ("model_type", "implementation"),
    [
        *(
            (model_type, name)
            for model_type in sorted(INTERFACE_TYPES)
            for name in ("eager", "sdpa")
        ),
        *((model_type, "its own") for model_type in sorted(BUCKET_TYPES)),
    ],
)
def test_packed_equals_padded(model_type: str, lengths: Sequence[int], implementation: str) -> None:
    """Hidden states and the gradient of every parameter equal those of the padded forward."""
    assert worst(tiny(model_type), "packed", lengths, implementation=implementation) < 1e-5


@pytest.mark.parametrize("lengths", [LENGTHS, SORTED], ids=["permuted", "sorted"])
@pytest.mark.parametrize("name", VARIANTS)
def test_packed_variant_equals_padded(name: str, lengths: Sequence[int]) -> None:
    """So do those of the variants of a family whose own attention runs on buckets."""
    assert worst(variant(name), "packed", lengths) < 1e-5


def test_convolution_over_the_whole_stream_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison fails when a convolution reaches from one sequence into the next."""
    model = variant("deberta-v2, convolution")
    assert worst(model, "packed", SORTED) < 1e-5
    monkeypatch.setattr(
        buckets,
        "_convolve",
        lambda conv, embedded, hidden, stream: conv(
            embedded, hidden, torch.ones_like(stream.ids_T)[None]
        ),
    )
    assert worst(model, "packed", SORTED) > 1e-3


def test_too_few_positions_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison fails when a short sequence gets fewer relative positions than it needs."""
    model = tiny("deberta-v2")
    monkeypatch.setattr(buckets, "min", lambda span, most: min(span, most) - 1, raising=False)
    assert worst(model, "packed", (4, 4, 6)) > 1e-3


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_leaking_attention_is_noticed(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same comparison fails when one run of sequences is treated as a single sequence."""

    def leaking(lengths: Sequence[int], most: int | None) -> tuple[tuple[int, int], ...]:
        runs = equal_runs(lengths, most)
        return tuple((1, count * size) if size == 3 else (count, size) for count, size in runs)

    monkeypatch.setattr(plan, "equal_runs", leaking)
    assert worst(tiny(model_type), "packed", SORTED) > 1e-3


@pytest.mark.parametrize("wider", [-1, 1])
def test_wrong_window_is_noticed(wider: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same comparison fails when a sliding window is wider or narrower by one token."""
    band = kernels._band
    monkeypatch.setattr(
        kernels,
        "_band",
        lambda length, window, device: band(length, window and window + wider, device),
    )
    assert worst(tiny("modernbert"), "packed", SORTED) > 1e-3


@pytest.mark.parametrize("model_type", ["bert", "modernbert"])
def test_wrong_positions_are_noticed(model_type: str) -> None:
    """The comparison fails when positions count on from one sequence to the next."""
    encoder = Encoder(tiny(model_type), "packed")
    stream = TokenStream.of(*sequences((4, 5)))
    right_TD = encoder(stream)
    counted = TokenStream(
        stream.ids_T, stream.types_T, torch.arange(9), stream.starts_S1, stream.lengths
    )
    # ModernBERT's rotary positions are relative: a shift of a whole sequence changes nothing.
    same = torch.allclose(encoder(counted), right_TD, atol=1e-4)
    assert same == (model_type == "modernbert")


def test_runs_of_bounded_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cutting runs to what a cache holds changes nothing."""
    monkeypatch.setattr(plan, "CPU_SCORES", 18)
    assert equal_runs((3, 3, 3, 20), plan.CPU_SCORES) == ((2, 3), (1, 3), (1, 20))
    assert worst(tiny("bert"), "packed", SORTED) < 1e-5


@pytest.mark.parametrize("model_type", [*sorted(PADDED_FAMILIES), "bert", "roberta", "modernbert"])
def test_padded_road_equals_reference(model_type: str) -> None:
    """The fallback gives the hidden states and gradients of the model as it is."""
    assert worst(tiny(model_type), "padded", LENGTHS) < 1e-5


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("model_type", ["bert", "modernbert", *sorted(BUCKET_TYPES)])
def test_no_tensor_over_all_pairs_of_tokens(model_type: str, dropout: float) -> None:
    """No operation of a packed forward makes a tensor of T x T elements."""

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(
            self, function: Callable, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = function(*args, **(kwargs or {}))
            made = result if isinstance(result, tuple | list) else [result]
            sizes = [value.numel() for value in made if isinstance(value, Tensor)]
            self.elements = max([self.elements, *sizes])
            return result

    model = tiny(model_type, attention_probs_dropout_prob=dropout)
    encoder = Encoder(model, "packed").train()
    stream = TokenStream.of(*inputs(encoder.model, [16] * 32))
    with Largest() as largest:
        encoder(stream)
    assert 0 < largest.elements < 512 * 512


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_attention_dropout(model_type: str) -> None:
    """Attention weights are dropped in training mode only."""
    encoder = Encoder(tiny(model_type, attention_probs_dropout_prob=0.5), "packed")
    stream = TokenStream.of(*inputs(encoder.model, SORTED))
    assert torch.equal(encoder(stream), encoder(stream))
    encoder.train()
    assert not torch.allclose(encoder(stream), encoder(stream), atol=1e-3)


@pytest.mark.parametrize("sliding_window", [None, 2])
def test_dropped_attention_keeps_its_mean(sliding_window: int | None) -> None:
    """Attention with dropout, over many draws, has the mean of attention without."""
    torch.manual_seed(0)
    stream = TokenStream.of(*sequences((2, 4, 4)))
    query, key, value = torch.randn(3, 1, 2, 10, 8)
    options = {"packed_plan": Plan.of(stream), "sliding_window": sliding_window}
    call = (torch.nn.Identity(), query, key, value, None)
    exact = packed_attention(*call, **options)[0]
    draws = [packed_attention(*call, dropout=0.3, **options)[0] for _ in range(2000)]
    assert not torch.allclose(draws[0], exact, atol=0.1)
    assert torch.allclose(torch.stack(draws).mean(0), exact, atol=0.12)


@pytest.mark.parametrize("model_type", sorted(PACKED_TYPES - {"albert", "mpnet"}))
def test_gradient_checkpointing(model_type: str) -> None:
    """Computing activations again gives the same gradients, dropout included."""
    model = tiny(model_type, attention_probs_dropout_prob=0.2)
    stream = TokenStream.of(*inputs(model, SORTED))
    calls = []

    def run(again: bool) -> dict[str, Tensor]:
        encoder = Encoder(copy.deepcopy(model), "packed", gradient_checkpointing=again).train()
        linear = next(m for m in encoder.model.modules() if isinstance(m, torch.nn.Linear))
        if model_type in ("electra", "deberta-v2"):
            linear = encoder.model.encoder.layer[0].intermediate.dense
        calls.clear()
        linear.register_forward_hook(lambda *_: calls.append(1))
        torch.manual_seed(3)
        return gradients(encoder.model, encoder(stream))

    once, times_once = run(False), len(calls)
    twice, times_twice = run(True), len(calls)
    assert (times_once, times_twice) == (1, 2)
    for parameter, value in once.items():
        assert torch.allclose(twice[parameter], value, rtol=1e-5, atol=1e-5), parameter


@pytest.mark.parametrize("model_type", ["albert", "mpnet"])
def test_no_gradient_checkpointing(model_type: str) -> None:
    """A family without gradient checkpointing says so."""
    with pytest.raises(MtlplugError, match=f"'{model_type}' has no gradient checkpointing"):
        Encoder(tiny(model_type), gradient_checkpointing=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("model_type", ["roberta", *sorted(BUCKET_TYPES)])
def test_half_precision(model_type: str, dtype: torch.dtype, dropout: float) -> None:
    """Half precision runs forward and backward on a CPU, close to float32."""
    model = tiny(model_type, initializer_range=0.05, attention_probs_dropout_prob=dropout)
    stream = TokenStream.of(*inputs(model, SORTED))
    exact_TD = Encoder(copy.deepcopy(model), "packed")(stream)
    encoder = Encoder(copy.deepcopy(model).to(dtype), "packed")
    hidden_TD = encoder(stream)
    assert hidden_TD.dtype == dtype
    assert torch.allclose(hidden_TD.float(), exact_TD, atol=0.1)
    found = gradients(encoder.model, encoder.train()(stream))
    assert all(value.isfinite().all() for value in found.values())


def test_stream() -> None:
    """A stream has positions within sequences, starts, lengths, and keeps the order."""
    ids = [np.array([5, 6], dtype=np.uint32), np.array([7], dtype=np.uint32)]
    types = [np.array([0, 1], dtype=np.uint8), np.array([1], dtype=np.uint8)]
    stream = TokenStream.of(ids, types)
    assert stream.ids_T.tolist() == [5, 6, 7]
    assert stream.types_T.tolist() == [0, 1, 1]
    assert stream.positions_T.tolist() == [0, 1, 0]
    assert stream.starts_S1.tolist() == [0, 2, 3]
    assert stream.lengths == (2, 1)
    assert len(stream) == 2
    dtypes = [stream.ids_T.dtype, stream.types_T.dtype, stream.positions_T.dtype]
    assert dtypes == [torch.int64] * 3
    assert stream.starts_S1.dtype == torch.int32
    moved = stream.to(torch.device("meta"))
    assert moved.starts_S1.device.type == "meta"
    assert moved.lengths == stream.lengths


def test_stream_of_sequences_that_travel_together() -> None:
    """Arrays that hold several sequences give the stream of the sequences one by one."""
    ids, types = sequences((2, 3, 1))
    together = [np.concatenate(ids[:2]), ids[2]], [np.concatenate(types[:2]), types[2]]
    stream, expected = TokenStream.of(*together, lengths=(2, 3, 1)), TokenStream.of(ids, types)
    assert stream.lengths == expected.lengths
    for name in ("ids_T", "types_T", "positions_T", "starts_S1"):
        assert torch.equal(getattr(stream, name), getattr(expected, name)), name
    with pytest.raises(MtlplugError, match=r"6 token ids .* 2 sequences of 5 tokens"):
        TokenStream.of(*together, lengths=(2, 3))


@pytest.mark.parametrize(
    ("lengths", "others", "sentence"),
    [
        ([], [], "one or more sequences of tokens; got none"),
        ([2, 0], [2, 0], "sequence 1 of 2 is empty"),
        ([2, 1], [1, 2], "3 token ids and 3 token type ids do not match 2 sequences of 3 tokens"),
    ],
)
def test_stream_errors(lengths: list[int], others: list[int], sentence: str) -> None:
    """Sequences that cannot be a stream are refused with a sentence."""
    with pytest.raises(MtlplugError, match=sentence):
        TokenStream.of([np.ones(n, int) for n in lengths], [np.ones(n, int) for n in others])


@pytest.mark.parametrize(
    ("model_type", "longest"),
    [("bert", 64), ("roberta", 62), ("modernbert", 64), ("distilbert", 64), ("mpnet", 62)],
)
def test_max_length(model_type: str, longest: int) -> None:
    """A sequence of the model's maximum runs; a longer one is refused with a sentence."""
    encoder = Encoder(tiny(model_type))
    assert encoder.max_length == longest
    assert encoder(TokenStream.of(*inputs(encoder.model, [longest]))).shape == (longest, 32)
    message = f"{longest + 1} tokens, more than the {longest} that model type '{model_type}'"
    with pytest.raises(MtlplugError, match=message):
        encoder(TokenStream.of(*inputs(encoder.model, [2, longest + 1])))


def test_roads(caplog: pytest.LogCaptureFixture) -> None:
    """Auto packs what can be packed; the fallback says so once; asking for padding is silent."""
    say_padded.cache_clear()
    with caplog.at_level(logging.WARNING, logger="mtlplug"):
        assert Encoder(tiny("bert")).road == "packed"
        assert Encoder(tiny("bert"), "padded").road == "padded"
        assert Encoder(tiny("ernie"), "padded").road == "padded"
        assert not caplog.records
        encoder = Encoder(tiny("ernie"))
        encoder(TokenStream.of(*sequences((2, 3))))
        encoder(TokenStream.of(*sequences((2, 3))))
    assert encoder.road == "padded"
    assert [record.getMessage()[:65] for record in caplog.records] == [
        "model type 'ernie' cannot run packed (family not known to pack): "
    ]


@pytest.mark.parametrize(
    ("model_type", "options", "line"),
    [
        ("bert", {}, "packed: attention interface"),
        ("deberta-v2", {}, "packed: length buckets"),
        ("mpnet", {}, "packed: length buckets"),
        ("ernie", {}, "padded: family not known to pack"),
        ("bert", {"is_decoder": True}, "padded: a decoder, whose tokens do not see what follows"),
        (
            "deberta",
            {"talking_head": True},
            "padded: heads of attention that mix each other's scores",
        ),
    ],
)
def test_road_of(model_type: str, options: dict[str, Any], line: str) -> None:
    """A configuration's road and the reason are one line, and the encoder takes that road."""
    model = tiny(model_type, **options)
    assert str(road_of(model.config)) == line
    assert Encoder(model).road == road_of(model.config).name


def test_every_family_has_one_road() -> None:
    """No type runs both through the attention interface and on buckets."""
    assert not INTERFACE_TYPES & BUCKET_TYPES


def test_road_errors() -> None:
    """An unknown road lists the known; a family that cannot be packed lists those that can."""
    with pytest.raises(MtlplugError, match="unknown road 'fast'; known: auto, packed, padded"):
        Encoder(tiny("bert"), "fast")
    with pytest.raises(MtlplugError, match=r"'ernie' cannot run packed .* albert, bert"):
        Encoder(tiny("ernie"), "packed")


@pytest.mark.parametrize(("pad_to", "longest"), [(None, 31), (16, 31), (40, 40), (500, 64)])
def test_pad_to(pad_to: int | None, longest: int) -> None:
    """Padded sequences are laid out over so many tokens, and give what they gave."""
    model = tiny("bert")
    encoder = Encoder(model, "padded")
    stream = TokenStream.of(*inputs(model, LENGTHS))
    expected_TD = encoder(stream)
    shapes = []
    model.embeddings.register_forward_hook(lambda *_: shapes.append(_[2].shape))
    encoder.pad_to = pad_to
    assert torch.allclose(encoder(stream), expected_TD, atol=1e-5)
    assert shapes == [(len(LENGTHS), longest, 32)]


@pytest.mark.parametrize("model_type", sorted(BUCKET_TYPES))
def test_buckets_leave_the_model_as_it_was(model_type: str) -> None:
    """A model that runs on buckets still takes masks, has its own weights only, and pickles."""
    model = tiny(model_type)
    names = [*model.state_dict()]
    ids, types = inputs(model, LENGTHS)
    expected_TD = reference(model, ids, types, "eager")
    encoder = Encoder(model, "packed")
    assert torch.equal(reference(model, ids, types, "eager"), expected_TD)
    assert [*model.state_dict()] == names
    stream = TokenStream.of(ids, types)
    hidden_TD = encoder(stream)
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        with torch.no_grad():
            for value in encoder.parameters():
                value.mul_(1.001)
        assert torch.equal(other(stream), hidden_TD)
        encoder = other


@pytest.mark.parametrize("name", [*sorted(BUCKET_TYPES), *VARIANTS])
def test_layers_on_buckets_run_equally_often(name: str) -> None:
    """How often a layer is called does not depend on lengths: ZeRO-3 counts on it."""
    encoder = Encoder(variant(name), "packed")
    calls: list[torch.nn.Module] = []
    for module in encoder.modules():
        module.register_forward_hook(lambda module, *_: calls.append(module))
    counts = []
    for lengths in ((5, 5, 5), SORTED):
        calls.clear()
        encoder(TokenStream.of(*inputs(encoder.model, lengths)))
        counts.append([calls.count(module) for module in encoder.modules()])
    assert counts[0] == counts[1]
    # Twice where positions share the projections of tokens.
    assert max(counts[0]) <= 2


def test_tables_of_positions_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeBERTa's table of relative positions serves until a longer sequence comes."""
    monkeypatch.setattr(buckets, "TABLE_STEP", 8)
    model = tiny("deberta-v2")
    encoder, made = Encoder(model, "packed"), []
    make = model.encoder.get_rel_pos
    model.encoder.get_rel_pos = lambda states: made.append(states.shape[-2]) or make(states)
    for lengths in ((3, 8), (9,), (2,), (31,)):
        ids, types = inputs(model, lengths)
        encoder(TokenStream.of(ids, types))
    assert made == [8, 16, 32]


def test_packed_attention_refuses_calls_from_outside() -> None:
    """The model called without the encoder raises instead of mixing up sequences."""
    encoder = Encoder(tiny("bert"), "packed")
    with pytest.raises(ValueError, match="runs inside Encoder only"):
        encoder.model(input_ids=torch.ones(2, 3).long(), attention_mask=torch.ones(2, 3).long())


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of two words."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"<unk>": 0, "a": 1, "b": 2}, "<unk>"))
    )


@pytest.mark.parametrize("model_type", [*sorted(FAMILIES), "ernie"])
def test_save(model_type: str, tmp_path: Path) -> None:
    """A saved encoder opens with the Auto classes and computes the same."""
    model = tiny(model_type)
    encoder = Encoder(model)
    ids, types = inputs(model, LENGTHS)
    hidden_TD = encoder(TokenStream.of(ids, types))
    encoder.save(tmp_path, tokenizer())
    assert NAME not in (tmp_path / "config.json").read_text()
    opened = AutoModel.from_pretrained(tmp_path)
    assert opened.config._attn_implementation != NAME
    opened_TD = reference(opened, ids, types, "sdpa")
    assert torch.allclose(opened_TD, hidden_TD, rtol=1e-4, atol=1e-5)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path).vocab_size == 3
    again = Encoder.from_pretrained(str(tmp_path))
    assert again.road == encoder.road
    assert torch.allclose(again(TokenStream.of(ids, types)), hidden_TD)


def test_loading_is_quiet_and_leaves_the_pooler(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Weights nobody uses are neither loaded nor reported, and half precision becomes float32."""
    config = tiny("bert").config
    transformers.BertForMaskedLM(config).half().save_pretrained(tmp_path / "lm")
    transformers.BertModel(config).save_pretrained(tmp_path / "pooler")
    capfd.readouterr()
    for name in ("lm", "pooler"):
        encoder = Encoder.from_pretrained(str(tmp_path / name), gradient_checkpointing=True)
        assert not [key for key, _ in encoder.named_parameters() if "pooler" in key]
        assert {value.dtype for value in encoder.parameters()} == {torch.float32}
        assert encoder.model.is_gradient_checkpointing
    assert capfd.readouterr() == ("", "")


def with_config(**changes: Any) -> Callable[[Path], None]:
    """Change the configuration in a model folder."""

    def spoil(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return spoil


def cut_weights(folder: Path) -> None:
    """Cut off the end of the weights in a model folder."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json; give the folder"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
        (
            lambda folder: (folder / "config.json").write_text("{"),
            "cannot load the model .*JSON.*; give the folder",
        ),
        (
            with_config(vocab_size=120),
            r"'embeddings.*' has shape \(99, 32\), not \(120, 32\); choose",
        ),
        (
            with_config(num_hidden_layers=3),
            r"lack 16 parameters of BertModel, first 'encoder\.layer\.2",
        ),
        (with_config(model_type="nonsense"), "cannot load the model .*; give the folder"),
        (
            with_config(hidden_size="big"),
            "cannot load the model .*'hidden_size'.*; give the folder",
        ),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "t5"}'),
            "cannot load the model .*'t5' is not an encoder; give the folder",
        ),
        (cut_weights, "cannot load the model .*; give the folder"),
    ],
)
def test_load_errors(
    spoil: Callable[[Path], None], sentence: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A model folder that cannot be loaded gives one sentence with the reason, nothing else."""
    tiny("bert").save_pretrained(tmp_path)
    spoil(tmp_path)
    capfd.readouterr()
    with pytest.raises(MtlplugError, match=sentence) as caught:
        Encoder.from_pretrained(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["nobody/no-such-encoder", "x y"])
def test_unreachable_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is no folder and cannot be had from the hub gives one sentence."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MtlplugError, match=f"cannot load the model '{name}'.*; give the") as caught:
        Encoder.from_pretrained(name)
    assert "no such folder, and from the hub: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such/folder"])
def test_model_folder_that_is_not_there(name: str) -> None:
    """A path that can only be a folder is not looked for on the hub."""
    with pytest.raises(MtlplugError, match=r"the model folder '.*no/such/folder' does not exist"):
        Encoder.from_pretrained(name)


def test_model_that_is_a_file(tmp_path: Path) -> None:
    """A file given as the model is refused by name."""
    (tmp_path / "model.bin").touch()
    with pytest.raises(MtlplugError, match=r"model\.bin' is a file; give the folder"):
        Encoder.from_pretrained(str(tmp_path / "model.bin"))


def test_real_encoder(minilm: str) -> None:
    """A real pretrained encoder gives equal hidden states and gradients, packed and padded."""
    model = Encoder.from_pretrained(minilm).model
    model.set_attn_implementation("sdpa")
    assert worst(model, "packed", (5, 5, 9, 30, 64, 130)) < 1e-5
