"""When a search ran, over all its sessions."""

from raysearch.records.run_folder import RunFolder


def spent(run: RunFolder) -> float:
    """Return the seconds that a search has run, over all its sessions."""
    return sum(end - begin for begin, end in sessions(run))


def sessions(run: RunFolder) -> list[tuple[float, float]]:
    """Return begin and end of each session; one that was killed ends with its last epoch."""
    known = run.info.get("sessions", [])
    times = [metrics["time"] for record in run.trials() for metrics in record.history]
    found = []
    for number, (begin, end) in enumerate(known):
        later = [b for b, _ in known[number + 1 :]]
        until = min(later, default=float("inf"))
        last = max((t for t in times if begin <= t < until), default=begin)
        found.append((begin, last if end is None else end))
    return found
