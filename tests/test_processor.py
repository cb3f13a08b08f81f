"""What the system says of the processor, and what is made of it where it says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtlplug.processor import processor

X86 = """\
processor\t: 0
model name\t: Swift 9000
flags\t\t: fpu avx2 amx_bf16

processor\t: 1
model name\t: Swift 9000
flags\t\t: fpu avx2 amx_bf16
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16\n"


def test_name_and_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are read from the first kind of file that Linux has."""
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: X86)
    assert processor() == ("Swift 9000", {"fpu", "avx2", "amx_bf16"})


def test_arm_has_features_and_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its flags go by another name; the machine's kind stands for the processor's name."""
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: ARM)
    monkeypatch.setattr("platform.processor", lambda: "aarch64")
    assert processor() == ("aarch64", {"fp", "asimd", "bf16"})


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """No flags are known, so that nothing is promised of it."""

    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert processor().flags == frozenset()
