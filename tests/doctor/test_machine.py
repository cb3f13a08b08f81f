"""What is said of the machine, and that trouble is noticed."""

from __future__ import annotations

import os
import socket
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from mtlplug.doctor import machine
from mtlplug.doctor.checks import BAD, NOTE, OK
from mtlplug.plugin_manager import Plugin, Plugins, load_plugins
from mtlplug.processor import free_memory
from mtlplug.training.deepspeed_config import default_precision

Usage = namedtuple("Usage", "total used free")


def test_all_checks_of_a_machine(tmp_path: Path) -> None:
    """The tests' own machine has nothing bad, and its facts are those of torch."""
    checks = {check.name: check for check in machine.machine_checks(tmp_path)}
    assert {check.status for check in checks.values()} <= {OK, NOTE}
    assert checks["versions"].facts["torch"] == torch.__version__
    assert checks["processor"].facts["cores"] == len(os.sched_getaffinity(0))
    assert checks["precision"].facts["chosen"] == default_precision()
    assert "fp32" in checks["precision"].facts["supported"]
    assert ("GPU" in checks) == (not torch.cuda.is_available())


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that would wait for each other are worth a note with the remedy."""
    cores = len(os.sched_getaffinity(0))
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores + 1)
    check = machine.cores_and_units()
    assert check.status == NOTE
    assert f"OMP_NUM_THREADS={cores}" in check.remedy


def test_a_device_that_torch_and_deepspeed_disagree_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed on another device than torch is bad."""
    seen = torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: not seen)
    check = machine.precision()
    assert check.status == BAD
    assert "DS_ACCELERATOR" in check.remedy


def test_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little memory is a note; where nothing is known, that is said."""
    monkeypatch.setattr(machine, "free_memory", lambda: 1 << 28)
    assert (machine.memory().status, machine.memory().found) == (NOTE, "256 MiB free")
    monkeypatch.setattr(machine, "free_memory", lambda: None)
    assert "not known" in machine.memory().found


def test_free_memory_is_that_of_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's limit counts where it is lower than what the host has."""
    files = {
        "/proc/meminfo": "MemTotal: 4096 kB\nMemAvailable: 2048 kB\n",
        "/sys/fs/cgroup/memory.max": "max",
        "/sys/fs/cgroup/memory.current": "1048576",
        "/sys/fs/cgroup/memory.stat": "anon 786432\nactive_file 65536\ninactive_file 196608\n",
    }
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: files[str(path)])
    assert free_memory() == 2 << 20
    files["/sys/fs/cgroup/memory.max"] = str(2 << 20)
    assert free_memory() == (1 << 20) + (1 << 18)  # what files fill can be had
    files["/sys/fs/cgroup/memory.max"] = "0"
    assert free_memory() == 0
    files["/proc/meminfo"] = ""
    assert free_memory() is None


def test_cache_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A cache below a file is bad; one that is not there yet is looked at where it would be."""
    (tmp_path / "file").touch()
    check = machine.cache_folder(tmp_path / "file" / "cache")
    assert check.status == BAD
    assert "--cache" in check.remedy
    assert machine.cache_folder(tmp_path / "not" / "yet").status == OK
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_little_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A full disk and a small /dev/shm are notes with the remedy."""
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: Usage(1 << 26, 0, 1 << 26))
    assert machine.cache_folder(tmp_path).status == NOTE
    if Path("/dev/shm").is_dir():
        assert "--shm-size" in machine.shared_memory().remedy


def test_plugins_loaded_and_broken() -> None:
    """Each plugin is named with its formats; a broken one is bad, with the reason."""
    found = load_plugins()
    broken = Plugin("odd", "mtlplug-odd", "1.0", error="ImportError: no module named 'odd'")
    checks = list(machine.plugin_checks(Plugins((*found.plugins, broken), found.formats)))
    *good, last = checks
    assert {check.status for check in good} == {OK}
    assert {code for check in good for code in check.facts["formats"]} == set(found.formats)
    assert (last.name, last.status) == ("plugin odd", BAD)
    assert "mtlplug-odd 1.0 is left out: ImportError" in last.found
    (none,) = machine.plugin_checks(Plugins())
    assert none.status == BAD


def test_a_port_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program listens where ranks meet."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setattr(machine, "USUAL_PORT", other.getsockname()[1])
        check = machine.port()
        assert check.status == NOTE
        assert "--master_port" in check.remedy
    assert machine.port().status == OK
