"""The places where a file from anywhere may carry code, and the commands that read it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bombs import PAYLOADS, script, write, yaml_tag
from planted_data import FILES, FOLDERS, Maker, a_folder

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mtlplug.training.manifest import (
    MANIFEST,
    file_digest,
    problem_of,
    read_json,
    write_manifest,
)

RUN, CACHE, SUITE, STUDY = "run", "cache", "suite", "study"
"""Folders of the ground: an interrupted run, its features, its suite with a model, a study."""

EPOCHS = 6


@dataclass(frozen=True)
class Case:
    """One file with code in it, and a command that reads it.

    Attributes:
        kind: of file: run, model, dataset, cache, suite, ledger.
        file: where the payload is.
        payload: its wrapping.
        plant: puts it into a copy of the ground; takes the copy and the marker.
        command: arguments of `mtlplug`; `{}` is the copy's folder.
    """

    kind: str
    file: str
    payload: str
    plant: Callable[[Path, Path], None]
    command: str


def command_of(output: str, cache: str = CACHE, epochs: int = EPOCHS) -> str:
    """A run on the small suite."""
    return (
        f"run --groups SL+QA+C --suite {{}}/{SUITE}/tiny.toml --cache {{}}/{cache} "
        f"--output {{}}/{output} --max-epochs {epochs}"
    )


def all_cases(ground: Path) -> Iterator[Case]:
    """Every case that the ground has files for."""
    yield from run_cases(ground)
    yield from model_cases()
    yield from dataset_cases()
    yield from cache_cases(ground)
    yield from suite_cases()
    if (ground / STUDY).exists():
        yield from ledger_cases(ground)


def written(relative: str, payload: str) -> Callable[[Path, Path], None]:
    """Puts a payload in the place of a file."""

    def plant(place: Path, marker: Path) -> None:
        path = place / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PAYLOADS[payload].make(marker))

    return plant


def run_cases(ground: Path) -> Iterator[Case]:
    """Every file of an interrupted run; of its checkpoints with a fitting checksum, too."""
    run = ground / RUN
    inner = {path.relative_to(run) for path in run.rglob("*") if path.is_file()}
    names = {path.name for path in inner if path.parts[0] == "checkpoints"}
    for name in sorted(names):
        for payload in PAYLOADS:
            yield Case(RUN, f"checkpoints/*/{name}", payload, _resealed(name, payload),
                       command_of(RUN))  # fmt: skip
    for path in sorted(inner):
        payload = "torch" if path.suffix == ".safetensors" else "pickle"
        yield Case(RUN, str(path), payload, written(f"{RUN}/{path}", payload), command_of(RUN))


def _resealed(name: str, payload: str) -> Callable[[Path, Path], None]:
    """Puts a payload into all checkpoints, none is left sound, and mends their manifests."""

    def plant(place: Path, marker: Path) -> None:
        for path in (place / RUN / "checkpoints").glob(f"*/{name}"):
            path.write_bytes(PAYLOADS[payload].make(marker))
            reseal(path)

    return plant


def reseal(path: Path) -> None:
    """Make a checkpoint's manifest say that a file in it is as it was written."""
    folder = path.parent
    if path.name == MANIFEST:
        return
    facts = read_json(folder / MANIFEST)
    files = facts.pop("files") | {path.name: (path.stat().st_size, file_digest(path))}
    write_manifest(folder, {k: v for k, v in facts.items() if k not in ("name", "sha256")}, files)
    if problem := problem_of(folder):
        raise RuntimeError(f"the checksums of {folder} do not fit: {problem}")


def model_cases() -> Iterator[Case]:
    """Weights, tokenizer and configuration of the encoder."""
    model = f"{SUITE}/model"
    fresh = command_of("new", epochs=1)
    for payload in ("pickle", "torch", "old torch", "numpy"):
        yield Case("model", "model.safetensors", payload,
                   written(f"{model}/model.safetensors", payload), fresh)  # fmt: skip
        for name, index in (
            ("pytorch_model.bin", None),
            ("pytorch_model-1.bin", "pytorch_model.bin.index.json"),
            ("pytorch_model-1.bin", "model.safetensors.index.json"),
        ):
            file = name if index is None else f"{name} by {index}"
            yield Case("model", file, payload, _weights(name, payload, index), fresh)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        yield Case("model", name, "pickle", written(f"{model}/{name}", "pickle"), fresh)
    for what, file, changes in CODE:
        yield Case("model", f"{what} in {file}", "python", _code(file, changes), fresh)


CODE: Sequence[tuple[str, str, dict[str, Any]]] = (
    ("code of a known type", "config.json",
     {"auto_map": {"AutoConfig": "evil.A", "AutoModel": "evil.A"}}),
    ("code of an unknown type", "config.json",
     {"model_type": "evil", "auto_map": {"AutoConfig": "evil.A", "AutoModel": "evil.A"}}),
    ("code for the tokenizer", "config.json", {"auto_map": {"AutoTokenizer": "evil.A"}}),
    ("code for the tokenizer", "tokenizer_config.json",
     {"tokenizer_class": "A", "auto_map": {"AutoTokenizer": ["evil.A", "evil.A"]}}),
    ("code of another folder", "config.json", {"auto_map": {"AutoModel": "../model--evil.A"}}),
    ("attention", "config.json", {"attn_implementation": "evil/evil"}),
)  # fmt: skip


def _weights(name: str, payload: str, index: str | None) -> Callable[[Path, Path], None]:
    def plant(place: Path, marker: Path) -> None:
        folder = place / SUITE / "model"
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(PAYLOADS[payload].make(marker))
        if index is not None:
            (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": {"w": name}}))

    return plant


def _code(file: str, changes: dict[str, Any]) -> Callable[[Path, Path], None]:
    def plant(place: Path, marker: Path) -> None:
        folder = place / SUITE / "model"
        values = json.loads((folder / file).read_text(encoding="utf-8"))
        (folder / file).write_text(json.dumps({**values, **changes}))
        for name in ("evil.py", "evil/__init__.py", "__init__.py"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(script(marker))

    return plant


def dataset_cases() -> Iterator[Case]:
    """Files of every reader, and folders as `datasets` loads them."""
    fresh = command_of("new", "cold", 1)
    for file in ("tags/train.conll", "spans/train.json", "kinds/train.tsv"):
        yield Case("dataset", file, "pickle", written(f"{SUITE}/{file}", "pickle"), fresh)
    for name, make in FILES.items():
        yield Case("dataset", name, "pickle", _source(name, make), fresh)
    for what, make in FOLDERS.items():
        yield Case("dataset", f"folder with {what}", "pickle", _source("evil", make), fresh)
    table = f'dataset = "pandas", data_dir = "{{}}/{SUITE}/evil", split = "train"'
    make = a_folder("train.pkl", "pickle")
    yield Case("dataset", "dataset pandas", "pickle", _source("evil", make, table), fresh)


def _source(name: str, make: Maker, table: str = "") -> Callable[[Path, Path], None]:
    """Makes something and has the suite name it as the training split of a task."""

    def plant(place: Path, marker: Path) -> None:
        make(place / SUITE / name, marker)
        suite = place / SUITE / "tiny.toml"
        text = suite.read_text(encoding="utf-8")
        inner = table.replace("{}", str(place)) or f'path = "{name}"'
        suite.write_text(text.replace('"kinds/train.tsv"', f"{{ {inner} }}", 1), encoding="utf-8")

    return plant


def cache_cases(ground: Path) -> Iterator[Case]:
    """Every stored file of one task's features."""
    for path in sorted((ground / CACHE).rglob("*")):
        inner = path.relative_to(ground)
        ours = any(part.startswith("kinds-") for part in inner.parts)
        if path.is_file() and ours and path.suffix in (".json", ".bin"):
            fresh = command_of("new", epochs=1)
            name = inner.relative_to(CACHE).as_posix()
            yield Case("cache", name, "pickle", written(str(inner), "pickle"), fresh)


def suite_cases() -> Iterator[Case]:
    """The suite's file, and a DeepSpeed configuration."""
    fresh = command_of("new", epochs=1)
    yield Case("suite", "tiny.toml", "pickle", written(f"{SUITE}/tiny.toml", "pickle"), fresh)
    yield Case("suite", "tiny.toml", "python", written(f"{SUITE}/tiny.toml", "python"), fresh)
    yield Case("suite", "tiny.toml", "YAML",
               lambda place, marker: write(place / SUITE / "tiny.toml", yaml_tag(marker).encode()),
               fresh)  # fmt: skip
    yield Case("suite", "DeepSpeed's JSON", "pickle", written("ds.json", "pickle"),
               f"{fresh} --deepspeed-config {{}}/ds.json")  # fmt: skip


def ledger_cases(ground: Path) -> Iterator[Case]:
    """The plan and the results of a study."""
    for path in sorted((ground / STUDY).rglob("*.json")):
        if path.name == "study.json" or path.parent.name == "cells":
            inner = path.relative_to(ground)
            for command in (
                f"study report {{}}/{STUDY}",
                f"study run {{}}/{SUITE}/tiny.toml {STUDY_OPTIONS}",
            ):
                yield Case("ledger", path.name[:16], "pickle",
                           written(str(inner), "pickle"), command)  # fmt: skip


STUDY_OPTIONS = (
    f"--output {{}}/{STUDY} --cache {{}}/{CACHE} --groups SL --targets more_kinds --rates 1e-3 "
    "--seeds 1 --finetune max_epochs=1 --workers 1"
)
