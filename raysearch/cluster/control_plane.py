"""Watches a cluster's control plane (Ray's GCS), without which no search can go on or end.

Ray itself waits a minute for it to come back, and then ends the driver without a word.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray

EVERY, PATIENCE = 2.0, 50.0  # seconds; Ray ends the process after 60
EXIT_LOST = 3


@contextmanager
def watched(repair: str, patience: float = PATIENCE) -> Iterator[None]:
    """End this process with a message when its cluster's control plane is gone for long.

    Everything that a search writes is in whole steps, so that it is left as after a power cut.

    Args:
        repair: what to type to go on.
        patience: seconds without an answer.
    """
    address = ray.get_runtime_context().gcs_address

    def lost() -> None:
        print(
            f"\nthe cluster's control plane at {address} has not answered for {patience:.0f} s: "
            f"its head is lost. Nothing that was written is; {repair}",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        os._exit(EXIT_LOST)  # Whatever Ray would tidy up waits for the control plane.

    watch = Watch(address, lost, patience)
    watch.start()
    try:
        yield
    finally:
        watch.ended.set()


class Watch(threading.Thread):
    """Calls `lost`, once, when nobody has listened at HOST:PORT for so many seconds."""

    def __init__(
        self, address: str, lost: Callable[[], None], patience: float, every: float = EVERY
    ) -> None:
        super().__init__(name="control plane", daemon=True)
        self.address, self.lost, self.patience, self.every = address, lost, patience, every
        self.ended = threading.Event()

    def run(self) -> None:
        seen = time.monotonic()
        while not self.ended.wait(self.every):
            if self._answers():
                seen = time.monotonic()
            elif time.monotonic() - seen >= self.patience:
                self.lost()
                return

    def _answers(self) -> bool:
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=self.every).close()
        except OSError:
            return False
        return True
