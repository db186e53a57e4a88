"""When a trial whose processes are lost again and again is given up.

A lost process or node says nothing of a configuration: it counts only when nothing was learned
between one loss and the next, and a storm that takes everything for a minute is one loss.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

LOST, MEMORY = "process lost", "out of memory"
MOST = {LOST: 3, MEMORY: 2}
STORM = {LOST: 90.0, MEMORY: 0.0}  # Seconds from the first of them to the last, at least.

Place = tuple[int, int]


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
            reason: LOST or MEMORY.
        """
        if self.places.get(number) != place:
            self.places[number], self.times[number] = place, {}
        times = self.times[number].setdefault(reason, [])
        times.append(self.now())
        return len(times) >= MOST[reason] and times[-1] - times[0] >= STORM[reason]
