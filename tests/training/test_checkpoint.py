"""mtlplug.training.checkpoint: whole or not there, the newest one that is whole, and no others."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mtlplug.errors import MtlplugError
from mtlplug.training import checkpoint
from mtlplug.training.checkpoint import Checkpoints, Part, name_of
from mtlplug.training.manifest import file_digest, problem_of, write_tensors
from mtlplug.world import World

ALONE = World(0, 1, torch.device("cpu"))


def part(value: float = 1.0) -> Part:
    """What a rank adds."""
    return Part({"weight/a": torch.full((64,), value)}, {"starts": {"a": 0}})


def progress(*needs: str) -> dict[str, Any]:
    """What all ranks share."""
    return {"needs": list(needs), "text": "x" * 50}


def write(place: Path, *names: str, keep: int = 2, **needs: str) -> Checkpoints:
    """Checkpoints, one after another."""
    checkpoints = Checkpoints(place, ALONE, keep)
    for name in names:
        checkpoints.save(name, part(), progress(*filter(None, [needs.get(name.replace("-", "_"))])))
        checkpoints.wait()
    return checkpoints


def names(place: Path) -> list[str]:
    """What lies there."""
    return sorted(path.name for path in place.iterdir())


def test_numbers_are_read_by_safetensors(tmp_path: Path) -> None:
    """Of every width and shape, and the digest is that of the file."""
    tensors = {
        "odd": torch.arange(7, dtype=torch.uint8),
        "flags": torch.tensor([True, False, True]),
        "half": torch.randn(3).bfloat16(),
        "numbers": torch.randn(2, 3, 5),
        "wide": torch.tensor(1 << 40),
        "none": torch.empty(0, 4),
    }
    size, digest = write_tensors(tmp_path / "file", tensors)
    assert (size, digest) == ((tmp_path / "file").stat().st_size, file_digest(tmp_path / "file"))
    read = load_file(tmp_path / "file")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


def test_the_newest_is_found_and_old_ones_go(tmp_path: Path) -> None:
    """Two are kept, and the one with the best weights that they need."""
    steps = [name_of(step, scored=False) for step in (2, 9, 10, 11)]
    checkpoints = write(tmp_path, "step-1-scored", *steps, step_10="step-2", step_11="step-2")
    assert names(tmp_path) == ["step-10", "step-11", "step-2"]
    found = checkpoints.newest()
    assert found is not None
    assert found.place.name == "step-11"
    assert found.progress["needs"] == ["step-2"]
    assert torch.equal(found.shards().read("weight", "a", 3, 4), torch.ones(4))


def test_a_rank_that_cannot_write_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 hears of it, and both say so."""
    write_part = checkpoint._write_part

    def full_on_one(folder: Path, rank: int, part: Part) -> dict[str, Any]:
        if rank == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_part(folder, rank, part)

    monkeypatch.setattr(checkpoint, "_write_part", full_on_one)
    zero, one = (Checkpoints(tmp_path, World(rank, 2, torch.device("cpu"))) for rank in (0, 1))
    zero.save("step-1", part(), progress())
    one.save("step-1", part(), progress())
    with pytest.raises(MtlplugError, match="No space left on device"):
        one.wait()
    with pytest.raises(MtlplugError, match="rank 1 could not write its part"):
        zero.wait()
    assert names(tmp_path) == []


def test_scores_make_a_step_newer(tmp_path: Path) -> None:
    """After the last step of an epoch comes its evaluation."""
    checkpoints = write(tmp_path, "step-5", "step-5-scored")
    found = checkpoints.newest()
    assert found is not None
    assert found.place.name == "step-5-scored"


def flip(path: Path, place: float) -> None:
    """Change one bit."""
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    path.write_bytes(bytes(data))


def zero(path: Path) -> None:
    """What a file system may leave of a file that was not on the disk yet."""
    path.write_bytes(b"\0" * path.stat().st_size)


DAMAGES: list[Callable[[Path], Any]] = [
    Path.unlink,
    zero,
    lambda path: os.truncate(path, path.stat().st_size - 1),
    lambda path: os.truncate(path, 0),
    lambda path: path.write_bytes(path.read_bytes() + b" "),
    *[lambda path, place=place / 7: flip(path, place) for place in range(8)],
]


@pytest.mark.parametrize("damage", DAMAGES, ids=range(len(DAMAGES)))
@pytest.mark.parametrize(
    "name", ["manifest.json", "progress.json", "rank-0.json", "rank-0.safetensors"]
)
def test_damage_is_noticed_and_the_one_before_used(
    tmp_path: Path, name: str, damage: Callable[[Path], Any]
) -> None:
    """Whatever happened to any of the files; what is wrong is said, and the step taken again."""
    checkpoints = write(tmp_path, "step-1", "step-2")
    assert problem_of(tmp_path / "step-2") is None
    damage(tmp_path / "step-2" / name)
    found = checkpoints.newest()
    assert found is not None
    assert found.place.name == "step-1"
    (refused,) = found.refused
    assert refused.startswith("checkpoint step-2 is damaged")
    assert name in refused
    for step in ("step-2", "step-3"):
        assert not checkpoints.has(step)
        checkpoints.save(step, part(), progress())
        checkpoints.wait()
    assert names(tmp_path) == ["step-2", "step-2.damaged", "step-3"]


def test_an_older_one_that_is_damaged_holds_nothing_up(tmp_path: Path) -> None:
    """It is not looked at while newer ones are whole, and goes in its turn."""
    checkpoints = write(tmp_path, "step-1", "step-2", keep=3)
    (tmp_path / "step-1" / "progress.json").write_text("{")
    for step in ("step-3", "step-4"):
        checkpoints.save(step, part(), progress())
        checkpoints.wait()
    assert names(tmp_path) == ["step-2", "step-3", "step-4"]


def test_a_checkpoint_whose_best_weights_are_damaged_is_not_used(tmp_path: Path) -> None:
    """It could go on, and would have no result."""
    checkpoints = write(tmp_path, "step-1", "step-2", "step-3", step_3="step-1", keep=3)
    flip(tmp_path / "step-1" / "rank-0.safetensors", 0.5)
    found = checkpoints.newest()
    assert found is not None
    assert found.place.name == "step-2"
    assert "it needs step-1: rank-0.safetensors" in found.refused[0]
    with pytest.raises(MtlplugError, match="step-1 is damaged"):
        checkpoints.find("step-1")


def test_nothing_is_begun_anew_when_all_are_damaged(tmp_path: Path) -> None:
    """Hours of training are not thrown away without a word."""
    checkpoints = write(tmp_path, "step-1", "step-2")
    for name in ("step-1", "step-2"):
        zero(tmp_path / name / "rank-0.json")
    with pytest.raises(MtlplugError, match=r"step-2 is damaged .*step-1 is damaged .*--overwrite"):
        checkpoints.newest()


def test_none_is_none(tmp_path: Path) -> None:
    """What was being written does not count, and is removed."""
    write(tmp_path, "step-1")
    (tmp_path / "step-1").rename(tmp_path / "step-1.tmp")
    checkpoints = Checkpoints(tmp_path, ALONE)
    assert checkpoints.newest() is None
    checkpoints.clear_leftovers()
    assert names(tmp_path) == []


def test_one_under_another_name_is_not_used(tmp_path: Path) -> None:
    """A copy would say that more steps were done than were."""
    checkpoints = write(tmp_path, "step-1")
    shutil.copytree(tmp_path / "step-1", tmp_path / "step-9")
    found = checkpoints.newest()
    assert found is not None
    assert found.place.name == "step-1"


def test_a_full_disk_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said in one sentence, by the thread's problem or before it starts."""
    checkpoints = write(tmp_path, "step-1")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "write_tensors", full)
        checkpoints.save("step-2", part(), progress())
        with pytest.raises(MtlplugError, match="No space left on device"):
            checkpoints.wait()
    assert names(tmp_path) == ["step-1"]
    with monkeypatch.context() as patched:
        usage = shutil._ntuple_diskusage(100, 50, 50)
        patched.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(MtlplugError, match=r"0\.0 MB are free"):
            checkpoints.save("step-2", part(), progress())
    checkpoints.save("step-2", part(), progress())
    checkpoints.wait()
    assert names(tmp_path) == ["step-1", "step-2"]


def test_the_manifest_says_what_is_there(tmp_path: Path) -> None:
    """Sizes and digests of all files but itself."""
    write(tmp_path, "step-1")
    manifest = json.loads((tmp_path / "step-1" / "manifest.json").read_text())
    assert sorted(manifest["files"]) == ["progress.json", "rank-0.json", "rank-0.safetensors"]
    assert names(tmp_path / "step-1") == ["manifest.json", *sorted(manifest["files"])]
    assert (manifest["name"], manifest["world_size"]) == ("step-1", 1)
