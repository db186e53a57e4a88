"""Seconds of work and of waiting for data, told apart; and the time of day that all nodes share."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
TOLERATED = 5.0  # Seconds that clocks may differ by; asking a slow disk takes as long.


def shared_clock(folder: Path) -> Callable[[], float]:
    """Return a clock of Unix seconds that all nodes share: that of a folder's file system.

    A node's own clock may be an hour off. Where the folder cannot be written, it must do.
    """
    probe = folder / f".clock.{os.getpid()}"
    try:
        probe.touch()
        ahead = probe.stat().st_mtime - time.time()
        probe.unlink()
    except OSError:
        ahead = 0.0
    return lambda: time.time() + (ahead if abs(ahead) > TOLERATED else 0.0)


class Clock:
    """Runs from its making. `waited` counts the seconds that an iterable took to give its items."""

    def __init__(self) -> None:
        self.started, self.waited = time.perf_counter(), 0.0

    def waiting_for(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, and count how long each was waited for."""
        source = iter(items)
        while True:
            asked = time.perf_counter()
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                self.waited += time.perf_counter() - asked
            yield item

    def working(self) -> float:
        """Return the seconds since the making of this clock, without the waiting."""
        return time.perf_counter() - self.started - self.waited
