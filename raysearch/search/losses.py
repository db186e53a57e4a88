"""When a trial whose processes are lost again and again is given up.

A lost process or node says nothing of a configuration: it counts only when nothing was learned
between one loss and the next.
"""

from dataclasses import dataclass, field

LOST, MEMORY = "process lost", "out of memory"
MOST = {LOST: 3, MEMORY: 2}

Place = tuple[int, int]


@dataclass
class Losses:
    """Counts each trial's losses since it last came further, by their reason."""

    places: dict[int, Place] = field(default_factory=dict)
    counts: dict[int, dict[str, int]] = field(default_factory=dict)

    def given_up(self, number: int, place: Place, reason: str) -> bool:
        """Count a loss; return whether the trial is not to be tried again.

        Args:
            place: epoch and step of the trial's newest checkpoint.
            reason: LOST or MEMORY.
        """
        if self.places.get(number) != place:
            self.places[number], self.counts[number] = place, {}
        counts = self.counts[number]
        counts[reason] = counts.get(reason, 0) + 1
        return counts[reason] >= MOST[reason]
