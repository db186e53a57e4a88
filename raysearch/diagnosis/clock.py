"""Whether the nodes' clocks agree with this one."""

import time

from raysearch.diagnosis.result import Everywhere, Result, answered

ROUNDS = 4
WARN, TOLD_APART = 2.0, 60.0  # seconds
SIGNED = ("s3://", "gs://", "gcs://")  # Requests carry the time, and old ones are refused.
REPAIR = "turn time synchronisation on there: `sudo timedatectl set-ntp true`"


def now() -> float:
    """Return this machine's clock, in seconds since 1970."""
    return time.time()


def offsets(everywhere: Everywhere) -> dict[str, tuple[float, float]]:
    """Measure how far each node's clock is ahead of this one, and how exactly that is known.

    A node's clock is read between question and answer, so the middle of both is off by half the
    round trip at most. The quickest of a few rounds counts: the first one starts the workers.

    Returns:
        Seconds ahead and half of the round trip, by node; nodes without an answer are left out.
    """
    found: dict[str, tuple[float, float]] = {}
    for _ in range(ROUNDS):
        asked = now()
        answers, _ = answered("clock", everywhere(now), "")
        ended = now()
        half = (ended - asked) / 2
        for node, told in answers.items():
            if node not in found or half < found[node][1]:
                found[node] = (told - (asked + half), half)
    return found


def judge_clock(node: str, ahead: float, half: float, storage: str = "") -> Result:
    """Judge an offset by what is certain of it. Durations do not depend on it; signed requests do.

    Args:
        ahead, half: see `offsets`.
        storage: URI that runs are stored at.
    """
    certain = max(0.0, abs(ahead) - half)
    text = f"{ahead:+.2f} s, give or take {half:.2f} s"
    if certain <= WARN:
        return Result("clock", node, text)
    fatal = certain > TOLD_APART and storage.startswith(SIGNED)
    return Result("clock", node, text, "failed" if fatal else "warning", REPAIR)
