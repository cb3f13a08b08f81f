"""`mtlplug plugins new`: what it writes installs, passes its own tests and is found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small_suite import command, outside

PIP = "--quiet --no-deps --no-build-isolation --no-index --disable-pip-version-check"
LONG = "not two_ranks and not killed"  # the contract suite's own; tests/plugins runs them

LISTED = """
import sys
from mtlplug.cli import main
main(["plugins", "--json"], standalone_mode=False)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new distribution."""
    folder = tmp_path_factory.mktemp("new") / "mtlplug-star-rating"
    result = command("plugins", "new", "star_rating", "--output", folder)
    assert result.exit_code == 0, result.output
    assert "--suite star_rating --groups SL+STAR_RATING" in result.stdout
    return folder


def test_it_is_small(written: Path) -> None:
    """Under ten files, and no name of the template is left in them."""
    files = [path for path in written.rglob("*") if path.is_file()]
    assert len(files) < 10
    assert not [path for path in files if "$" in path.read_text(encoding="utf-8")]
    assert (written / "mtlplug_star_rating" / "star_rating.toml").exists()


def test_it_installs_and_passes(written: Path, tmp_path: Path) -> None:
    """Installed by pip it is found with its suite, and its own tests pass as they are."""
    install = [sys.executable, "-m", "pip", "install", *PIP.split(), "--target", tmp_path, written]
    subprocess.run(install, check=True, env=outside())
    environment = outside(PYTHONPATH=str(tmp_path))
    run = {"cwd": written, "env": environment, "capture_output": True, "text": True}
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", LONG]
    done = subprocess.run(tests, **run)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout[-3000:]
    assert "19 passed, 5 skipped" in done.stdout
    done = subprocess.run([sys.executable, "-c", LISTED], **run)  # type: ignore[call-overload]
    listed = {each["name"]: each for each in json.loads(done.stdout)}
    ours = listed["star_rating"]
    assert (ours["distribution"], ours["formats"]) == ("mtlplug-star-rating", ["STAR_RATING"])
    assert ours["hooks"] == ["mtlplug_suites", "mtlplug_task_formats"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Two Words", "is no plain name"),
        ("class", "is no plain name"),
        ("../up", "is no plain name"),
        ("sl", "a plugin 'sl' is installed (mtlplug)"),
    ],
)
def test_names(name: str, message: str, tmp_path: Path) -> None:
    """A name that no module may have, or that is taken, is refused and nothing is written."""
    result = command("plugins", "new", name, "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(written: Path, tmp_path: Path) -> None:
    """A folder that is there stays as it is; where none can be made nothing is left behind."""
    before = (written / "README.md").read_bytes()
    result = command("plugins", "new", "star_rating", "--output", written)
    assert (result.exit_code, "exists" in result.stderr) == (2, True)
    assert (written / "README.md").read_bytes() == before
    (tmp_path / "file").write_text("")
    result = command("plugins", "new", "star_rating", "--output", tmp_path / "file" / "new")
    assert (result.exit_code, "cannot be written" in result.stderr) == (2, True)
