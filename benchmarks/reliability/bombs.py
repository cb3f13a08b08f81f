"""Code in many wrappings. Every payload makes a file, the marker, when it runs.

`Payload.detonate` opens one the careless way, which shows that it would.
"""

from __future__ import annotations

import io
import json
import pickle
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Bomb:
    """Unpickled, it runs Python."""

    def __init__(self, marker: Path) -> None:
        self.source = source(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self.source,)


def source(marker: Path) -> str:
    """Python that makes the marker."""
    return f"open({str(marker)!r}, 'a').close()\n"


def pickled(marker: Path) -> bytes:
    """A plain pickle."""
    return pickle.dumps(Bomb(marker), protocol=2)


def zipped(marker: Path) -> bytes:
    """What `torch.save` writes today."""
    return _saved(marker, new=True)


def legacy(marker: Path) -> bytes:
    """What `torch.save` wrote before 1.6."""
    return _saved(marker, new=False)


def array(marker: Path) -> bytes:
    """A numpy file of objects."""
    file = io.BytesIO()
    np.save(file, np.array([Bomb(marker)], dtype=object), allow_pickle=True)
    return file.getvalue()


def script(marker: Path) -> bytes:
    """A Python module."""
    return source(marker).encode()


def _saved(marker: Path, *, new: bool) -> bytes:
    file = io.BytesIO()
    torch.save({"weight": Bomb(marker)}, file, _use_new_zipfile_serialization=new)
    return file.getvalue()


@dataclass(frozen=True)
class Payload:
    """Code in one wrapping.

    Attributes:
        make: the bytes of a file; takes the marker.
        detonate: opens such a file so that the code runs.
    """

    make: Callable[[Path], bytes]
    detonate: Callable[[Path], object]


PAYLOADS = {
    "pickle": Payload(pickled, lambda path: pickle.loads(path.read_bytes())),
    "torch": Payload(zipped, lambda path: torch.load(path, weights_only=False)),
    "old torch": Payload(legacy, lambda path: torch.load(path, weights_only=False)),
    "numpy": Payload(array, lambda path: np.load(path, allow_pickle=True)),
    "python": Payload(script, lambda path: runpy.run_path(str(path))),
}


def yaml_tag(marker: Path) -> str:
    """YAML that an unsafe loader runs."""
    return f"dataset_info: !!python/object/apply:builtins.exec [{json.dumps(source(marker))}]\n"


def write(path: Path, data: bytes) -> None:
    """Write a file and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
