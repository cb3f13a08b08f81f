"""Commands in processes of their own, all of whose Python tells what could run code or reach out.

Python's audit hooks cannot be removed, so they are set in child processes only: by a module
`sitecustomize`, which every Python imports at its start, those that a command starts too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.small_suite import free_port, outside

LONGEST = 300.0

HOOK = """
import json, os, sys

LOG = os.open(os.environ["AUDIT_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
INSIDE = os.environ["AUDIT_FOLDER"]
SOCKETS = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
           "socket.gethostbyname", "socket.gethostbyaddr")


def tell(event, what):
    os.write(LOG, (json.dumps([event, what]) + "\\n").encode())


def hook(event, arguments):
    if event == "pickle.find_class":
        tell(event, ".".join(map(str, arguments)))
    elif event in SOCKETS:
        place = arguments[0 if event.startswith("socket.get") else 1]
        tell(event, str(place[0] if isinstance(place, tuple) else place))
    elif event == "exec":
        file = getattr(arguments[0], "co_filename", "")
        if str(file).startswith(INSIDE):
            tell(event, file)


sys.addaudithook(hook)
tell("start", sys.argv[:1])
"""

LOOPBACK = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "None")


@dataclass(frozen=True)
class Told:
    """What processes did.

    Attributes:
        exit_codes: one for each process that was started here.
        output: all they printed.
        events: kind and object: a class found by pickle, a file run, an address.
    """

    exit_codes: list[int]
    output: str
    events: list[tuple[str, str]]

    def of(self, kind: str) -> list[str]:
        """The objects of the events whose kind begins so."""
        return [what for event, what in self.events if event.startswith(kind)]

    @property
    def far(self) -> list[str]:
        """Addresses beyond this host."""
        return [place for place in self.of("socket.") if place not in LOOPBACK]


def audited(
    folder: Path,
    *arguments: Sequence[str | Path],
    ranks: int = 1,
    under: Sequence[str] = (),
    **environment: str,
) -> Told:
    """Run `python ARGUMENTS` once for each rank, at the same time.

    Args:
        folder: for the hook and its log; Python files run from its parent are told.
        arguments: of Python.
        ranks: of a run; 1 starts it without a launcher.
        under: words of a command that starts Python.
        environment: more variables.
    """
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    log = folder / "log.jsonl"
    log.unlink(missing_ok=True)
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    shared = {"PYTHONPATH": path, "AUDIT_LOG": str(log), "AUDIT_FOLDER": f"{folder.parent}/",
              "HF_HUB_OFFLINE": "1", **environment}  # fmt: skip
    port = free_port()
    processes = [
        subprocess.Popen(
            [*under, sys.executable, *map(str, arguments)],
            env=outside(**shared, **launched(rank, ranks, port)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(ranks)
    ]
    texts = [process.communicate(timeout=LONGEST)[0] for process in processes]
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    codes = [process.returncode for process in processes]
    return Told(codes, "\n".join(texts), [(event, str(what)) for event, what in events])


def launched(rank: int, ranks: int, port: str) -> Mapping[str, str]:
    """What a launcher would tell a process."""
    if ranks == 1:
        return {}
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {**{name: str(number) for name, number in numbers.items()}, **place}
