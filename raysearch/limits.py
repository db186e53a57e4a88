"""What the operating system allows a process: how many files, and how much memory."""

from collections.abc import Iterable
from pathlib import Path

from raysearch.errors import ConfigError

# Ray's processes open files for one another: up to 125 each for two trials through Ray Train.
WANTED, NEEDED = 65536, 512


def raise_open_files(needed: int = NEEDED) -> int:
    """Raise this process's limit of open files, which those that it starts inherit; return it.

    Raises:
        ConfigError: the highest limit that this user may set is too low for a search.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit.
        return WANTED
    unlimited = resource.RLIM_INFINITY
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != unlimited and hard < needed:
        raise ConfigError(
            f"this session may open {hard} files, and a search opens up to {needed}; raise the "
            f"limit with `sudo prlimit --pid $$ --nofile={WANTED}:{WANTED}`, for good with "
            f"`* hard nofile {WANTED}` in /etc/security/limits.conf, or start the container with "
            f"`--ulimit nofile={WANTED}`"
        )
    wanted = WANTED if hard == unlimited else min(WANTED, hard)
    if soft != unlimited and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft if soft != unlimited else wanted


def oom_kills() -> int | None:
    """Return how often the kernel has killed a process for want of memory; None where unknown.

    Counted in the control group of this process, which those that Ray starts share, else on the
    whole machine.
    """
    return kills_in([*memory_files(), Path("/proc/vmstat")])


def kills_in(files: Iterable[Path]) -> int | None:
    """Return the count that the first of these files has which has one."""
    for path in files:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None


def memory_files(
    groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> list[Path]:
    """Return where the kernel counts for this process's control group, of version 1 or 2: by the
    group's name outside a container, and by that inside."""
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and "memory" not in controllers.split(","):
            continue
        top = mounted / "memory" if controllers else mounted
        name = "memory.oom_control" if controllers else "memory.events"
        found += [top / path.lstrip("/") / name, top / name]
    return found
