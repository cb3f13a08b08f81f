"""Where each tool runs: mtlplug in this Python, every peer in a virtual environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
INSTALL_SECONDS = 1800


class UnavailableError(Exception):
    """A tool cannot be installed or run; the message says why."""


def python_of(tool: str, work: Path) -> Path:
    """The interpreter of a tool; its environment is made once, from `requirements-TOOL.txt`.

    Raises:
        UnavailableError: the packages cannot be installed.
    """
    if tool == "mtlplug":
        return Path(sys.executable)
    requirements = HERE / f"requirements-{tool}.txt"
    folder = work / "environments" / tool
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    stamp = folder / "installed.txt"
    wanted = requirements.read_text(encoding="utf-8")
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    try:
        venv.create(folder, with_pip=True, clear=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UnavailableError(f"no virtual environment can be made: {error}") from None
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*map(str, install), "--requirement", str(requirements)], f"installing {tool}")
    stamp.write_text(wanted, encoding="utf-8")
    return python


def run(command: Sequence[str], what: str) -> None:
    """Run a command to its end.

    Raises:
        UnavailableError: it fails or takes too long.
    """
    try:
        done = subprocess.run(
            command, check=False, timeout=INSTALL_SECONDS, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{what} took over {INSTALL_SECONDS} s") from None
    if done.returncode:
        raise UnavailableError(f"{what} failed: {last_line(done.stderr)}")


def commit_of(checkout: Path) -> str | None:
    """The commit of a checkout; None where git cannot tell."""
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() or None


def last_line(text: str) -> str:
    """What a failed command said last, as errors do; an `ERROR:` line of pip before that."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["it said nothing"])[-1][:300]


def variables(tool: str, work: Path, threads: int) -> dict[str, str]:
    """The environment variables of a worker: no network, no GPU, so many threads."""
    mine = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if tool == "mtlplug" and "PYTHONPATH" in os.environ:
        mine["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return mine | {
        "OMP_NUM_THREADS": str(threads),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(work / "huggingface"),
        "TOKENIZERS_PARALLELISM": "false",
    }
