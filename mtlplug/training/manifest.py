"""Files of which every byte is known: written to the disk, with sizes and digests in a manifest."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MANIFEST = "manifest.json"

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""As safetensors calls them."""

AT_ONCE = 32 << 20
"""Bytes written before the disk is asked whether it has something to do."""

Entry = tuple[int, str]
"""Size in bytes and SHA-256 of a file."""


def write_json(path: Path, value: Any) -> Entry:
    """Write a JSON file and bring it to the disk; size and digest."""
    return _write_text(path, json.dumps(value) + "\n")


def read_json(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_manifest(folder: Path, facts: Mapping[str, Any], files: Mapping[str, Entry]) -> None:
    """Say what a folder holds, once all of it is on the disk."""
    _write_text(folder / MANIFEST, _text({**facts, "name": folder.stem, "files": files}))
    sync_folder(folder)


def problem_of(place: Path) -> str | None:
    """What is not as it was written in a checkpoint's folder; None: nothing."""
    try:
        text = (place / MANIFEST).read_text(encoding="utf-8")
        manifest = json.loads(text)
        del manifest["sha256"]
        if _text(manifest) != text or manifest["name"] != place.name:
            return f"{MANIFEST} is not as it was written"
        for name, (size, digest) in manifest["files"].items():
            path = place / name
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes, not {size}"
            if file_digest(path) != digest:
                return f"{name} is not as it was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read: {' '.join(str(error).split())}"
    return None


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> Entry:
    """Write a safetensors file; the disk is at work and the digest computed meanwhile.

    safetensors' own `save_file` gives no digest, and leaves the disk idle until all is written. The
    format: the header's length in 8 bytes, a header of JSON, and the numbers, end to end
    (https://github.com/huggingface/safetensors#format).

    Args:
        path: of the file.
        tensors: on the host, contiguous.

    Returns:
        Size and digest.
    """
    # The widest first, so that each lies at a multiple of its width.
    ordered = sorted(tensors.items(), key=lambda pair: -pair[1].itemsize)
    ends = [0]
    for _, tensor in ordered:
        ends.append(ends[-1] + tensor.nbytes)
    header = {
        name: {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": place}
        for (name, tensor), place in zip(ordered, pairwise(ends), strict=True)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    parts: list[bytes | memoryview] = [struct.pack("<Q", len(text)), text]
    parts += [tensor.reshape(-1).view(torch.uint8).numpy().data for _, tensor in ordered]
    with ThreadPoolExecutor(2) as others, path.open("wb") as file:
        digest = others.submit(_digest_of, parts)
        syncing = others.submit(os.fsync, file.fileno())
        for part in parts:
            for start in range(0, len(part), AT_ONCE):
                file.write(part[start : start + AT_ONCE])
                if syncing.done():
                    syncing.result()  # a disk tells of a fault once
                    syncing = others.submit(os.fsync, file.fileno())
        syncing.result()
        file.flush()
        os.fsync(file.fileno())
    return sum(len(part) for part in parts), digest.result()


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_text(path: Path, text: str) -> Entry:
    """Write a file and bring it to the disk; size and digest."""
    data = text.encode()
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    return len(data), hashlib.sha256(data).hexdigest()


def _text(manifest: Mapping[str, Any]) -> str:
    """A manifest with its own digest."""
    digest = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    return json.dumps({**manifest, "sha256": digest}, indent=1) + "\n"


def _digest_of(parts: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
