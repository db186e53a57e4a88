"""The control plane's watch, on a real port."""

import socket
import threading
from collections.abc import Iterator

import pytest

from raysearch.cluster.control_plane import Watch


@pytest.fixture
def port() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield listening


def _watched(port: socket.socket, lost: threading.Event) -> Watch:
    address = f"127.0.0.1:{port.getsockname()[1]}"
    watch = Watch(address, lost.set, patience=0.5, every=0.05)
    watch.start()
    return watch


def test_a_control_plane_that_answers_is_not_lost(port: socket.socket) -> None:
    lost = threading.Event()
    watch = _watched(port, lost)
    assert not lost.wait(1.0)
    watch.ended.set()
    watch.join(5)
    assert not watch.is_alive()


def test_a_control_plane_that_is_gone_is_told_once_patience_is_over(port: socket.socket) -> None:
    lost = threading.Event()
    watch = _watched(port, lost)
    port.close()
    assert lost.wait(10)
    watch.join(5)
    assert not watch.is_alive()
