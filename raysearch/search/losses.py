"""When a trial whose processes are lost again and again is given up.

A lost process or node says nothing of a configuration: it counts only when nothing was learned
between one loss and the next, and a storm that takes everything for a minute is one loss.

Where a node's memory runs out, Ray 2.60 kills the processes that began last, whosoever took the
memory. So a trial that Ray has killed in place of a larger process is not to blame at all.
"""

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from raysearch.search.ready import NotReady

LOST, MEMORY, NOT_READY = "process lost", "out of memory", "no node was ready"
BESIDE = "another was out of memory"
MOST = {LOST: 3, MEMORY: 2, NOT_READY: 3, BESIDE: math.inf}
# Seconds from the first of them to the last, at least. Storage may be away for long.
STORM = {LOST: 90.0, MEMORY: 0.0, NOT_READY: 3600.0, BESIDE: 0.0}
# How Ray's memory monitor tells of each process that it might have killed.
CONSIDERED = re.compile(
    r"^(Selected to kill: )?\((?:Actor|Task).*actual memory used=([\d.]+)GB", re.MULTILINE
)

Place = tuple[int, int]


def reason_of(told: str, alone: bool = False) -> str:
    """Return why a process ended, by the text of its loss.

    Args:
        alone: no other trial runs that could be to blame for want of memory.
    """
    if "OutOfMemoryError" in told:
        return BESIDE if _spared_the_largest(told) and not alone else MEMORY
    return NOT_READY if NotReady.__name__ in told else LOST


def _spared_the_largest(told: str) -> bool:
    """Whether Ray's memory monitor let the largest process live; False where that is unknown."""
    considered = [(float(used), bool(chosen)) for chosen, used in CONSIDERED.findall(told)]
    return bool(considered) and not max(considered)[1]


@dataclass
class Losses:
    """Counts each trial's losses since it last came further, by their reason."""

    now: Callable[[], float] = time.monotonic
    places: dict[int, Place] = field(default_factory=dict)
    times: dict[int, dict[str, list[float]]] = field(default_factory=dict)

    def given_up(self, number: int, place: Place, reason: str) -> bool:
        """Count a loss; return whether the trial is not to be tried again.

        Args:
            place: epoch and step of the trial's newest checkpoint.
            reason: LOST, MEMORY, NOT_READY or BESIDE, which is never counted.
        """
        if self.places.get(number) != place:
            self.places[number], self.times[number] = place, {}
        times = self.times[number].setdefault(reason, [])
        times.append(self.now())
        return len(times) >= MOST[reason] and times[-1] - times[0] >= STORM[reason]
