"""Seconds of work and seconds of waiting for data, told apart."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


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
