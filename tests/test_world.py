"""mtlplug.world: what the processes of a run tell each other."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mtlplug.errors import MtlplugError
from mtlplug.world import World
from tests.small_suite import outside

ALONE = World(0, 1, torch.device("cpu"))

SCRIPT = """
import json, pickle, sys
import numpy as np, torch, torch.distributed as dist
from mtlplug.world import World

def refused(*_, **__):
    raise AssertionError("pickle was used")

dist.init_process_group("gloo", store=dist.FileStore(sys.argv[2], 2), rank=int(sys.argv[1]),
                        world_size=2)
for name in ("gather_object", "broadcast_object_list", "all_gather_object"):
    setattr(dist, name, refused)
world = World(int(sys.argv[1]), 2, torch.device("cpu"))
mine = {"rank": world.rank, "scores": [0.1 * 3] * (1 + 5000 * world.rank), "name": "ä"}
gathered = world.gather([mine, None])
told = world.broadcast({"loss": float("nan"), "best": np.float32(0.5)} if world.main else "mine")
total = world.sum(torch.tensor([1.0 + world.rank]))
world.barrier()
print(json.dumps([gathered, told, total.tolist()]))
"""


@pytest.mark.parametrize(
    ("value", "back"),
    [
        ({"a": (1, 2.5, None, True, "ä\x00")}, {"a": [1, 2.5, None, True, "ä\x00"]}),
        ({3: [np.float64(0.1), np.int64(7)]}, {"3": [0.1, 7]}),
        ([np.arange(3), torch.ones(2)], [[0, 1, 2], [1.0, 1.0]]),
        (0.1 + 0.2, 0.1 + 0.2),
        (-math.inf, -math.inf),
    ],
)
def test_values_come_back_as_json_has_them(value: object, back: object) -> None:
    """On one rank as on many, so that a run on one shows what a run on many will do."""
    assert ALONE.broadcast(value) == back
    assert ALONE.gather(value) == [back]


def test_seeds_of_ranks() -> None:
    """One of its own for every rank and number, which torch takes, however large they are."""
    worlds = [World(rank, 2, torch.device("cpu")) for rank in range(2)]
    seeds = [world.own_seed(2**63 - 1, *more) for world in worlds for more in ((), (1,), (2,))]
    assert len({torch.Generator().manual_seed(seed).initial_seed() for seed in seeds}) == 6


def test_other_values_are_refused() -> None:
    """What JSON cannot tell is an error that says what may be told."""
    with pytest.raises(MtlplugError, match=r"type PosixPath .*JSON-like"):
        ALONE.gather({"a": Path("x")})


def test_two_processes(tmp_path: Path) -> None:
    """Rank 0 has the values of both, of whatever sizes; both have those of rank 0; no pickle."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            env=outside(),
            text=True,
        )
        for rank in (0, 1)
    ]
    texts = [process.communicate(timeout=180)[0] for process in processes]
    (gathered, told, total), (others, also_told, also_total) = map(json.loads, texts)
    assert [each["rank"] for each, _ in gathered] == [0, 1]
    assert [len(each["scores"]) for each, _ in gathered] == [1, 5001]
    assert gathered[1][0]["scores"][-1] == 0.1 * 3
    assert gathered[1][0]["name"] == "ä"
    assert others == []
    assert math.isnan(told["loss"])
    assert told["best"] == also_told["best"] == 0.5
    assert total == also_total == [3.0]
