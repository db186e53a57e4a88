"""What the operating system allows a process: how many files, and how much memory."""

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
    for path in (*_group_files(), Path("/proc/vmstat")):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        found = [int(n) for key, _, n in (line.partition(" ") for line in lines) if key == OOM_KILL]
        if found:
            return found[0]
    return None


OOM_KILL = "oom_kill"


def _group_files(
    groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> list[Path]:
    """Where the memory controller counts for this process's group, by its name outside a container
    and by that inside."""
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and "memory" not in controllers.split(","):
            continue
        version_1 = bool(controllers)
        top = mounted / "memory" if version_1 else mounted
        name = "memory.oom_control" if version_1 else "memory.events"
        found += [top / path.lstrip("/") / name, top / name]
    return found
