"""The wheel: what is in it, and that it works from elsewhere without the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.small_suite import outside

ROOT = Path(__file__).resolve().parents[1]

FROM_WHERE = """
import importlib, json
from importlib.metadata import entry_points
from importlib.resources import files
names = ["mtlplug", "mtlplug.suites", "mtlplug_sl", "mtlplug_qa", "mtlplug_c", "mtlplug_ds_configs"]
print(json.dumps({
    "files": {name: importlib.import_module(name).__file__ for name in names},
    "suites": sorted(each.name for each in files("mtlplug.suites").iterdir()),
    "stage": json.loads(files("mtlplug_ds_configs").joinpath("zero1_fp32.json").read_text()),
    "points": sorted({point.name for point in entry_points(group="mtlplug")}),
}))
"""


def git(*arguments: str) -> str:
    """What git says about the checkout."""
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what git knows: no `build/` of old leaks into it."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what belongs to the package is not known")
    copy, target = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", target, copy],
        capture_output=True,
        text=True,
        cwd=target,
        env=outside(),
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (path,) = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the wheel."""
    target = tmp_path_factory.mktemp("site")
    options = "--quiet --no-deps --no-index --disable-pip-version-check"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options.split(), "--target", target, wheel],
        check=True,
        env=outside(),
    )
    return target


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    """Every module and data file of the package is in it; no tests, no package `plugins`."""
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "mtlplug").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    expected |= {path.name for path in (ROOT / "plugins").glob("*.py")}
    expected |= {
        f"mtlplug_ds_configs/{path.name}"
        for path in (ROOT / "ds_configs").iterdir()
        if path.suffix in (".py", ".json")
    }
    assert found == expected
    assert {"mtlplug/py.typed", "mtlplug/suites/collection.toml", "mtlplug_sl.py"} <= found
    assert "mtlplug_ds_configs/zero1_bf16.json" in found


def test_the_metadata(wheel: Path) -> None:
    """Version, licence, command and plugins are declared."""
    archive = zipfile.ZipFile(wheel)
    text = {
        name.split(".dist-info/")[1]: archive.read(name).decode()
        for name in archive.namelist()
        if ".dist-info/" in name
    }
    assert "Name: mtlplug\n" in text["METADATA"]
    assert "License: Apache-2.0\n" in text["METADATA"]
    assert "licenses/LICENSE" in text
    points = text["entry_points.txt"]
    assert "mtlplug = mtlplug.cli:main" in points
    assert all(f"{name} = mtlplug_{name}" in points for name in ("sl", "qa", "c"))


def run(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in another folder, which finds mtlplug where the wheel was installed."""
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env=outside(PYTHONPATH=str(site)),
    )


def test_the_wheel_works_without_the_checkout(site: Path, tmp_path: Path) -> None:
    """Modules, suites, DeepSpeed configurations and plugins are those of the wheel."""
    said = json.loads(run(site, tmp_path, "-c", FROM_WHERE).stdout)
    assert all(Path(file).is_relative_to(site) for file in said["files"].values()), said["files"]
    assert "collection.toml" in said["suites"]
    assert said["stage"]["zero_optimization"]["stage"] == 1
    assert said["points"] == ["c", "qa", "sl"]


def test_the_commands_work_without_the_checkout(site: Path, tmp_path: Path) -> None:
    """`python -m mtlplug` and the installed script start from another folder."""
    help_text = run(site, tmp_path, "-m", "mtlplug", "--help").stdout
    assert "Usage: mtlplug" in help_text
    assert all(command in help_text for command in ("run", "tasks", "inspect", "plugins"))
    script = site / "bin" / "mtlplug"
    assert os.access(script, os.X_OK)
    assert run(site, tmp_path, str(script), "--help").stdout == help_text


def test_the_launcher_script_works_from_the_wheel(site: Path, tmp_path: Path) -> None:
    """`python .../mtlplug/run.py`, with the launcher's argument first, is one command."""
    script = str(site / "mtlplug" / "run.py")
    assert "--groups" in run(site, tmp_path, script, "--local_rank=0", "--help").stdout
