"""What every rank is at, for all to see: one that is gone or hangs is named, and the run ends.

ranks/rank-0.json       process, host, step and what it does there, written every second

Gloo waits half an hour for a rank that hangs, NCCL ten minutes, and neither says which one it is.
Files tell even where the rank that hangs is the one that all connections go through.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mtlplug.world import World

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_AWAY = 5.0
"""Between two looks, after which this process was not running itself."""

SECONDS_TO_DIE = 5.0
"""In which a rank that broke a connection is gone."""

LOADING = "waits for its loader"
COMPUTING = "computes"
WAITING = "waits for the others"
BUSY = "is busy with what may take long"


@dataclass(frozen=True)
class Seen:
    """What a rank says of itself.

    Attributes:
        step: optimizer steps done.
        doing: one of the above.
        since: when it began with it, seconds since the epoch.
        told: when it last said anything, by the clock of the file system.
        space: in which its process has its number; containers have their own.
    """

    rank: int
    process: int
    host: str
    step: int
    doing: str
    since: float
    told: float
    space: str

    def __str__(self) -> str:
        return f"rank {self.rank} (process {self.process} on {self.host})"

    @property
    def gone(self) -> bool:
        """Whether its process has ended; of another host's or container's it is not known."""
        if (self.host, self.space) != (socket.gethostname(), _space()):
            return False
        try:
            stat = Path(f"/proc/{self.process}/stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            return not _alive(self.process)
        return stat.rpartition(")")[2].split()[0] in "ZX"


class Ranks:
    """Tells the other ranks what this one does, and watches them, in a thread.

    Args:
        place: folder on a file system that all ranks see.
        world: the processes of the run; one alone is not watched.
        limit: seconds that a rank may take for what it does; 0: any.
    """

    def __init__(self, place: Path, world: World, limit: float) -> None:
        self.place = place
        self.world = world
        self.limit = limit
        self._step, self._doing, self._since = 0, BUSY, time.monotonic()
        self._heard: dict[int, tuple[float, float]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ranks", daemon=True)

    def __enter__(self) -> Ranks:
        if self.world.size > 1:
            self.place.mkdir(parents=True, exist_ok=True)
            self._tell()
            self.world.barrier()  # leaves nothing to be read that an earlier run wrote
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.world.size > 1:
            self._over.set()
            self._thread.join()
            self._file(self.world.rank).unlink(missing_ok=True)

    def at(self, doing: str, step: int | None = None) -> None:
        """This rank has come so far."""
        self._step = self._step if step is None else step
        self._doing, self._since = doing, time.monotonic()

    def explain(self) -> None:
        """After a broken connection: end this process if another one is gone, and name it."""
        deadline = time.monotonic() + SECONDS_TO_DIE
        while self.world.size > 1 and time.monotonic() < deadline:
            self._end_if_gone()
            time.sleep(0.1)

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._over.wait(SECONDS_BETWEEN_LOOKS):
            with suppress(OSError):  # a disk that is full now may have room later
                self._tell()
            looked = self._look(looked)

    def _look(self, before: float) -> float:
        """Look at the others; returns when, as the next look needs it."""
        now = time.monotonic()
        if now - before > SECONDS_AWAY:
            # The whole job was suspended, or the disk did not answer: nobody was late.
            self._since = now
            self._heard.clear()
        self._end_if_gone()
        if self.limit:
            self._end_if_hanging()
        return now

    def _end_if_hanging(self) -> None:
        now, others = time.monotonic(), self._others()
        for each in others:
            if self._heard.get(each.rank, (0.0, 0.0))[0] != each.told:
                # By this host's clock, whatever the other's says.
                self._heard[each.rank] = (each.told, now)
        silent = [each for each in others if now - self._heard[each.rank][1] > self.limit]
        late = self._doing != BUSY and now - self._since > self.limit
        if silent or late:
            self._end(hanging([*others, self._mine()], silent, self.limit))

    def _end_if_gone(self) -> None:
        for other in self._others():
            if other.gone:
                self._end(f"{other} is gone, after step {other.step}; it was killed, or crashed")

    def _end(self, sentence: str) -> None:
        """End this process at once: its main thread waits for what will not come."""
        print(
            f"error: {sentence}; the same command goes on from the newest checkpoint",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)

    def _mine(self) -> Seen:
        host = socket.gethostname()
        since = time.time() - (time.monotonic() - self._since)
        doing = (self._step, self._doing, since)
        return Seen(self.world.rank, os.getpid(), host, *doing, time.time(), _space())

    def _tell(self) -> None:
        file = self._file(self.world.rank)
        unfinished = file.with_suffix(".tmp")
        try:
            unfinished.write_text(json.dumps(asdict(self._mine())), encoding="utf-8")
            unfinished.replace(file)
        except OSError:
            os.utime(file)  # says that it is alive, also on a full disk
            raise

    def _others(self) -> list[Seen]:
        """Those that have not ended."""
        found = []
        for rank in range(self.world.size):
            # One that cannot be read now may be read later.
            with suppress(OSError, ValueError, TypeError):
                if rank != self.world.rank:
                    file = self._file(rank)
                    seen = Seen(**json.loads(file.read_text(encoding="utf-8")))
                    found.append(replace(seen, told=file.stat().st_mtime))
        return found

    def _file(self, rank: int) -> Path:
        return self.place / f"rank-{rank}.json"


def hanging(ranks: list[Seen], silent: list[Seen], limit: float) -> str:
    """A sentence that names the ranks which the others wait for.

    Args:
        ranks: all of them.
        silent: those that have not told anything for so long, which their threads would.
        limit: in seconds.
    """
    doing = [each for each in ranks if each.doing in (LOADING, COMPUTING)]
    told = [f"{each} does not answer after step {each.step}" for each in silent]
    told = told or [f"{each} {each.doing} after step {each.step}" for each in doing]
    told = told or [f"all ranks wait for each other after step {ranks[0].step}"]
    return f"{' and '.join(told)}, for more than {limit:g} s (--hang-seconds)"


def _space() -> str:
    """What tells the process numbers of containers apart, where the system says so."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
