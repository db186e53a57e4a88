"""When a trial whose processes are lost again and again is given up.

A lost process or node says nothing of a configuration: it counts only when nothing was learned
between one loss and the next, and a storm that takes everything for a minute is one loss.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from raysearch.search.ready import NotReady

LOST, MEMORY, NOT_READY = "process lost", "out of memory", "no node was ready"
MOST = {LOST: 3, MEMORY: 2, NOT_READY: 3}
# Seconds from the first of them to the last, at least. Storage may be away for long.
STORM = {LOST: 90.0, MEMORY: 0.0, NOT_READY: 3600.0}

Place = tuple[int, int]


def reason_of(told: str) -> str:
    """Return why a process ended, by the text of its loss."""
    if "OutOfMemoryError" in told:
        return MEMORY
    return NOT_READY if NotReady.__name__ in told else LOST


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
            reason: LOST, MEMORY or NOT_READY.
        """
        if self.places.get(number) != place:
            self.places[number], self.times[number] = place, {}
        times = self.times[number].setdefault(reason, [])
        times.append(self.now())
        return len(times) >= MOST[reason] and times[-1] - times[0] >= STORM[reason]
