"""One search at a time in a run folder, and who it is.

The lock is the kernel's (flock), so the death of its process releases it however it dies. The file
beside it says in plain words who holds it.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from raysearch.errors import RunError
from raysearch.records.files import read_json, write_json

LOCK, OWNER = ".lock", "owner.json"


@dataclass(frozen=True)
class Owner:
    """A process on a host. A pid is used again in time, a pid with its start time is not.

    started: seconds since the start of the host, which setting its clock does not change.
    """

    pid: int
    host: str
    started: float

    @property
    def here(self) -> bool:
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether this very process runs on this host."""
        try:
            process = psutil.Process(self.pid)
            same = abs(_started(process) - self.started) < 1
            return self.here and same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process() -> Owner:
    """Return the owner that stands for this process."""
    return Owner(os.getpid(), socket.gethostname(), _started(psutil.Process()))


def _started(process: psutil.Process) -> float:
    return float(process.create_time() - psutil.boot_time())


def owner(folder: Path) -> Owner | None:
    """Return the process whose search runs in a run folder, or None.

    A process of this host is looked up; for one of another host the lock itself is asked.
    """
    if not (folder / OWNER).is_file():
        return None
    found = Owner(**read_json(folder / OWNER))
    running = found.alive if found.here else _held(folder)
    return found if running else None


@contextmanager
def lock(folder: Path) -> Iterator[Owner]:
    """Hold a run folder for this process.

    Raises:
        RunError: another search holds it; the message names its process and host.
    """
    held = FileLock(folder / LOCK)
    try:
        # A moment of patience: `owner` may be asking at this very moment.
        held.acquire(timeout=1, poll_interval=0.05)
    except Timeout as error:
        holder = owner(folder)
        raise RunError(
            f"{folder}: {holder or 'another process'} is searching here; wait for it, or end it "
            "with `python -m raysearch.runs stop`"
        ) from error
    try:
        me = this_process()
        write_json(folder / OWNER, asdict(me))
        yield me
    finally:
        (folder / OWNER).unlink(missing_ok=True)
        held.release()


def _held(folder: Path) -> bool:
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except (Timeout, PermissionError):
        return True
