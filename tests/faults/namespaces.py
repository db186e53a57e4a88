"""Hosts that are network namespaces on one switch, whose cables can be pulled."""

import os
import shutil
import subprocess
from types import TracebackType
from typing import Self

import pytest

NET = "10.88.{}.{}"


def skip_where_impossible() -> None:
    """Skip a test where network namespaces cannot be made, with the reason."""
    if os.getuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    made = subprocess.run(["ip", "netns", "add", _name("try")], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"network namespaces cannot be made: {made.stderr.strip()}")
    _ip("netns", "del", _name("try"))


class Hosts:
    """Namespaces `0` to `count - 1`, each with one cable to a switch in a namespace of its own."""

    def __init__(self, count: int) -> None:
        self.names = [_name(str(number)) for number in range(count)]
        self.switch = _name("switch")

    def __enter__(self) -> Self:
        _ip("netns", "add", self.switch)
        _ip("-n", self.switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", self.switch, "link", "set", "switch", "up")
        for number, name in enumerate(self.names):
            port = f"port{number}"
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
            _ip(
                "-n", name, "link", "add", "eth0", "type", "veth",
                "peer", "name", port, "netns", self.switch,
            )  # fmt: skip
            _ip("-n", name, "addr", "add", f"{self.ip(number)}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", self.switch, "link", "set", port, "up")
            self.join(number)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in (*self.names, self.switch):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def ip(self, number: int) -> str:
        return NET.format(os.getpid() % 250, number + 1)

    def within(self, number: int) -> list[str]:
        """What runs a command on a host."""
        return ["ip", "netns", "exec", self.names[number]]

    def cut(self, number: int) -> None:
        """Pull a host's cable at the switch: its packets are lost, and nobody is told."""
        _ip("-n", self.switch, "link", "set", f"port{number}", "nomaster")

    def join(self, number: int) -> None:
        _ip("-n", self.switch, "link", "set", f"port{number}", "master", "switch")


def _name(what: str) -> str:
    return f"rs{os.getpid()}-{what}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
