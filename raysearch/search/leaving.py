"""Asking a search's trials to leave: they write a checkpoint in the middle of an epoch, and end.

A file in the run's folder asks those that see it, and a key in Ray's control plane all others. What
Ray says of a node that is about to be taken away is asked in the same way: by a thread, for an
answer may take a minute where the network is cut, and training goes on meanwhile.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray
from ray._private.state import state
from ray.experimental import internal_kv

LEAVE = "leave"
NAMESPACE = b"raysearch"
EVERY_SECONDS = 1.0


def ask(run: Path) -> None:
    """Ask all trials of a run to leave; from a signal handler too, so nothing is waited for."""
    (run / LEAVE).touch()
    threading.Thread(target=_put, args=(run,), daemon=True).start()


def take_back(run: Path) -> None:
    """Let trials of a run train again."""
    (run / LEAVE).unlink(missing_ok=True)
    internal_kv._internal_kv_del(_key(run), namespace=NAMESPACE)


def asked(run: Path) -> bool:
    """Whether the trials of a run are to leave."""
    return (run / LEAVE).exists() or (
        internal_kv._internal_kv_initialized()
        and bool(internal_kv._internal_kv_exists(_key(run), namespace=NAMESPACE))
    )


@contextmanager
def watched(run: Path) -> Iterator[Callable[[], bool]]:
    """Yield whether this process's trial must go: it is asked to, or Ray drains its node."""
    node = ray.get_runtime_context().get_node_id()
    found, over = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(EVERY_SECONDS):
            with suppress(Exception):  # The control plane is away; others see to that.
                if asked(run) or node in state.get_draining_nodes():
                    found.set()
                    return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield found.is_set
    finally:
        over.set()


def _put(run: Path) -> None:
    with suppress(Exception):  # Without it, those that see the file leave.
        internal_kv._internal_kv_put(_key(run), b"", namespace=NAMESPACE)


def _key(run: Path) -> bytes:
    return f"{LEAVE}:{run}".encode()
