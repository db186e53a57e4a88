"""Control groups with a limit of memory, for a search's processes and never for the machine's."""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

MOUNTED = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Group:
    """A control group of version 1 or 2."""

    path: Path
    version: int

    @property
    def kills(self) -> int:
        """How often the kernel has killed a process in it for want of memory."""
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        lines = (self.path / name).read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def inside(self, seen: bool = False) -> list[str]:
        """Return what a command is run by to lie in the group, with all that it starts.

        Args:
            seen: it finds the group's limit where a container finds its own.
        """
        enter = f"echo $$ > {self.path}/cgroup.procs"
        if not seen:
            return ["sh", "-c", f'{enter} && exec "$0" "$@"']
        top = MOUNTED / "memory" if self.version == 1 else MOUNTED
        bound = f"mount --bind {self.path} {top}"
        return ["unshare", "--mount", "sh", "-c", f'{enter} && {bound} && exec "$0" "$@"']


@contextmanager
def limited(megabytes: int) -> Iterator[Group]:
    """Make a group with a limit, and remove it when its processes have ended."""
    group = _made()
    limit = "memory.limit_in_bytes" if group.version == 1 else "memory.max"
    (group.path / limit).write_text(str(megabytes << 20))
    if group.version == 2:
        (group.path / "memory.swap.max").write_text("0")
    try:
        yield group
    finally:
        _remove(group.path)


def _made() -> Group:
    """Make a group; skip the test where this user or this system has none."""
    name = f"raysearch-{uuid.uuid4().hex[:8]}"
    version = 1 if (MOUNTED / "memory").is_dir() else 2
    path = (MOUNTED / "memory" if version == 1 else MOUNTED) / name
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error.strerror}")
    limit = "memory.limit_in_bytes" if version == 1 else "memory.max"
    if not os.access(path / limit, os.W_OK):
        path.rmdir()
        pytest.skip("control groups have no memory controller here")
    return Group(path, version)


def _remove(path: Path) -> None:
    deadline = time.monotonic() + 30
    while (path / "cgroup.procs").read_text() and time.monotonic() < deadline:
        time.sleep(0.2)
    path.rmdir()
