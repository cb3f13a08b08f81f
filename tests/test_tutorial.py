"""docs/writing-a-format.md: its files and commands, in its order, in an empty folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small_suite import outside

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "writing-a-format.md").read_text("utf-8")
STEP = re.compile(r"<!-- (file: (?P<name>\S+)|run) -->\n```\w+\n(?P<text>.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder after all steps; pip installs into a folder of the test's own."""
    folder, site = tmp_path_factory.mktemp("tutorial"), tmp_path_factory.mktemp("site")
    environment = outside(
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        PYTHONPATH=str(site),
        PIP_TARGET=str(site),
        PIP_NO_DEPS="1",
        PIP_NO_INDEX="1",
        PIP_NO_BUILD_ISOLATION="0",  # pip reads it so: no isolation
        PIP_DISABLE_PIP_VERSION_CHECK="1",
    )
    said = []
    for step in STEP.finditer(PAGE):
        if step["name"]:
            (folder / step["name"]).write_text(step["text"], encoding="utf-8")
            continue
        command = ["bash", "-euo", "pipefail", "-c", step["text"]]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
        assert done.returncode == 0, step["text"] + done.stdout[-2000:] + done.stderr[-2000:]
        said.append(done.stdout)
    (folder / "said.txt").write_text("\n".join(said), encoding="utf-8")
    return folder


def test_the_format_is_found(folder: Path) -> None:
    """`mtlplug plugins` lists what the page says it lists."""
    said = (folder / "said.txt").read_text(encoding="utf-8")
    (line,) = [line for line in said.splitlines() if "MC (multiple choice)" in line]
    assert all(part in line for part in ("choice", "mtlplug-choice", "0.1.0", "ok"))


def test_the_format_was_learnt_beside_the_others(folder: Path) -> None:
    """The run trained four formats together, and the new one ended far above chance."""
    (report_path,) = folder.glob("runs/*/report.json")
    tasks = json.loads(report_path.read_text(encoding="utf-8"))["tasks"]
    assert {task["format"] for task in tasks.values()} == {"SL", "QA", "C", "MC"}
    assert tasks["meals"]["untrained"] < 70 < tasks["meals"]["score"]
