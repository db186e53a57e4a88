"""An epoch that is broken off: what must go soon keeps what it has learned of it."""

from dataclasses import asdict, dataclass
from typing import Any

from raysearch.errors import TrialError


class Preempted(TrialError):
    """The process was told that it must go; the trial goes on from the checkpoint just written."""


@dataclass(frozen=True)
class Unfinished:
    """An epoch as far as it has come.

    Attributes:
        step: optimizer steps taken in it.
        sums: losses (total, semantic, boundary) and share of right classes, each summed over the
            images of all ranks.
        images: how many these were.
        rate: learning rate of the last step.
        seconds, waited: of training, and of waiting for data.
    """

    step: int = 0
    sums: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    images: float = 0.0
    rate: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0

    def to_state(self) -> dict[str, Any]:
        """Return plain values, as a checkpoint keeps them."""
        return asdict(self)


def never() -> bool:
    """Stand for a process that nobody takes away."""
    return False
