"""mtlplug.training.deepspeed_config: the user's JSON and the run must agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mtlplug.config import RunConfig
from mtlplug.errors import MtlplugError
from mtlplug.training import deepspeed_config
from mtlplug.training.deepspeed_config import resolve_deepspeed
from mtlplug.training.engine import precision_of


@pytest.fixture(autouse=True)
def _any_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that runs every precision."""
    monkeypatch.setattr(deepspeed_config, "_supported", lambda precision: True)


def resolved(tmp_path: Path, content: dict[str, Any], **options: Any) -> dict[str, Any]:
    """What becomes of a user's JSON."""
    file = tmp_path / "user.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return resolve_deepspeed(RunConfig(deepspeed_config=file, **options), 2)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_our_own_configurations_are_zero_1(precision: str) -> None:
    """Without a file the run uses ZeRO-1 in the precision asked for."""
    config = resolve_deepspeed(RunConfig(precision=precision), 2)
    assert config["zero_optimization"]["stage"] == 1
    assert precision_of(config) == precision
    assert config["train_batch_size"] == 128
    assert config["gradient_clipping"] == 1.0
    # A bucket that gradients are copied into would hold 500 million numbers.
    assert config["zero_optimization"]["contiguous_gradients"] is False


def test_deepspeeds_meter_is_off_unless_asked_for(tmp_path: Path) -> None:
    """It waits for the device in every step; a user may still want it."""
    assert resolved(tmp_path, {})["timers"]["throughput"]["enabled"] is False
    on = {"timers": {"throughput": {"enabled": True}}}
    assert resolved(tmp_path, on)["timers"]["throughput"]["enabled"] is True


def test_what_the_user_sets_is_kept(tmp_path: Path) -> None:
    """Stages, buckets and the like reach DeepSpeed; `auto` is filled in."""
    zero = {"stage": 2, "reduce_bucket_size": 1000, "overlap_comm": True}
    config = resolved(tmp_path, {"zero_optimization": zero, "train_batch_size": "auto"})
    assert config["zero_optimization"] == zero
    assert config["train_batch_size"] == 128


def test_auto_precision_follows_the_run(tmp_path: Path) -> None:
    """`"enabled": "auto"` becomes true for the precision of the run alone."""
    both = {"fp16": {"enabled": "auto"}, "bf16": {"enabled": "auto"}}
    config = resolved(tmp_path, both | {"zero_optimization": {"stage": 1}}, precision="bf16")
    assert precision_of(config) == "bf16"
    assert config["fp16"]["enabled"] is False


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        ({"train_batch_size": 64}, {}, "sets train_batch_size to 64, the run to 128; give --batch"),
        ({"gradient_clipping": 0.5}, {}, "gradient_clipping to 0.5, the run to 1.0"),
        ({"gradient_accumulation_steps": 4}, {}, "cut by tokens here; remove it"),
        ({"train_micro_batch_size_per_gpu": 4}, {}, "cut by tokens here; remove it"),
        ({"fp16": {"enabled": True}, "bf16": {"enabled": True}}, {}, "enables both fp16 and bf16"),
        (
            {"bf16": {"enabled": True}, "zero_optimization": {"stage": 1}},
            {"precision": "fp16"},
            "asks for bf16, the run for fp16",
        ),
        ({"bf16": {"enabled": True}}, {}, "bf16 with ZeRO stage 0"),
        (
            {
                "bf16": {"enabled": True},
                "zero_optimization": {"stage": 1},
                "data_types": {"grad_accum_dtype": "fp32"},
            },
            {},
            "accumulates gradients in fp32 in a run in bf16 with ZeRO stage 1",
        ),
        ({"zero_optimization": 1}, {}, "is not an object"),
        ({"optimizer": {"params": None}}, {}, "optimizer.params is not an object"),
        ({"bf16": {"enabled": "true"}}, {}, "bf16.enabled is 'true'"),
        ({"fp16": {"enabled": 1}}, {}, "fp16.enabled is 1; it must be true, false"),
    ],
)
def test_contradictions_are_one_sentence(
    tmp_path: Path, content: dict[str, Any], options: dict[str, Any], sentence: str
) -> None:
    """It names the file, both values and what to do."""
    with pytest.raises(MtlplugError, match=sentence) as caught:
        resolved(tmp_path, content, **options)
    assert "user.json" in str(caught.value)


def test_a_file_that_is_no_json_is_named_with_its_line(tmp_path: Path) -> None:
    """Line and reason are in the sentence."""
    file = tmp_path / "bad.json"
    file.write_text('{"a": 1,\n "b": }', encoding="utf-8")
    with pytest.raises(MtlplugError, match=r"bad\.json, line 2 is not JSON"):
        resolve_deepspeed(RunConfig(deepspeed_config=file), 1)
    with pytest.raises(MtlplugError, match="does not exist"):
        resolve_deepspeed(RunConfig(deepspeed_config=tmp_path / "none.json"), 1)


def test_a_precision_the_machine_lacks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some processors run no fp16; DeepSpeed would end in a traceback."""
    monkeypatch.setattr(deepspeed_config, "_supported", lambda precision: precision == "fp32")
    with pytest.raises(MtlplugError, match=r"fp16, which DeepSpeed does not run .*--precision"):
        resolve_deepspeed(RunConfig(precision="fp16"), 1)
