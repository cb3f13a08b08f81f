"""Files of which every byte is known: written to the disk, with sizes and digests in a manifest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"

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
            if _digest(path) != digest:
                return f"{name} is not as it was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read: {' '.join(str(error).split())}"
    return None


def settle(path: Path) -> Entry:
    """Bring a file to the disk while its digest is computed; size and digest."""
    with ThreadPoolExecutor(1) as other, path.open("rb") as file:
        syncing = other.submit(os.fsync, file.fileno())
        digest = _digest(path)
        syncing.result()
    return path.stat().st_size, digest


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


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
