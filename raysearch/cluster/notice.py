"""A worker process that is told to go (SIGTERM) first lets its training write a checkpoint."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

GRACE = "RAYSEARCH_GRACE_S"  # Seconds from SIGTERM to the end of the process, at most.

_told, _idle = threading.Event(), threading.Event()
_idle.set()


def on_worker_start() -> None:
    """Make SIGTERM wait for the training of this process, and tell it which Ray it belongs to; Ray
    runs this as each worker starts.

    Ray's own handler ends the process at once. It is installed after this, by a function that can
    be had only here, and runs in the main thread while a trial trains in another one.
    """
    import ray._private.utils as utils
    from ray._private.worker import global_worker

    # Ray Train's own actors look for "the" Ray of a machine, and give up where there are several.
    os.environ.setdefault("RAY_ADDRESS", global_worker.gcs_client.address)
    install = utils.set_sigterm_handler

    def patient(handler: Callable[[int, Any], None]) -> None:
        def wait_then_end(signum: int, frame: Any) -> None:
            _told.set()
            _idle.wait(float(os.environ.get(GRACE, "5")))
            handler(signum, frame)

        install(wait_then_end)

    utils.set_sigterm_handler = patient


HOOK = f"{__name__}.{on_worker_start.__name__}"


def must_go() -> bool:
    """Whether this process has been told to go."""
    return _told.is_set()


def outside_work(report: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """Return what reports an epoch without being waited for: everything is written by then, and
    Tune's answer comes through the thread that waits."""

    def told(metrics: dict[str, Any]) -> None:
        _idle.set()
        try:
            report(metrics)
        finally:
            _idle.clear()

    return told


@contextmanager
def at_work() -> Iterator[None]:
    """Keep the process for a moment after it was told to go, until this has ended."""
    _idle.clear()
    try:
        yield
    finally:
        _idle.set()
