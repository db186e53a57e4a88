"""A Ray cluster of several nodes, each started by `ray start` as a process tree of its own."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tests.faults.searches import ELSEWHERE, SETTINGS, family, lives, title, wait_for

MEMORY = 150_000_000  # bytes of each node's object store
RAY = Path(sys.executable).with_name("ray")

# Prints what is used, once it is what is wanted or the time is over.
LOOK = """
import json, sys, time
import ray
from ray.util.placement_group import placement_group_table
address, seconds, wanted = sys.argv[1:]
ray.init(address=address, log_to_driver=False, logging_level="ERROR")
deadline = time.monotonic() + float(seconds)
while True:
    free, total = ray.available_resources(), ray.cluster_resources()
    groups = [
        group["state"] for group in placement_group_table().values() if group["state"] != "REMOVED"
        and any(b.get("CPU") or b.get("GPU") for b in group["bundles"].values())
    ]
    used = {k: total.get(k, 0.0) - free.get(k, 0.0) for k in ("CPU", "GPU")}
    as_wanted = len(groups) == int(wanted) == used["CPU"]
    if as_wanted or time.monotonic() > deadline:
        break
    time.sleep(0.5)
total = {k: total.get(k, 0.0) for k in ("CPU", "GPU")}
print("LOOK" + json.dumps({"used": used, "total": total, "groups": groups}))
"""

# Tells the cluster that a node will be taken away, as a cloud's notice does.
DRAIN = """
import sys, time
import ray
from ray._raylet import GcsClient
from ray.core.generated import autoscaler_pb2
address, ip, seconds = sys.argv[1:]
ray.init(address=address, log_to_driver=False, logging_level="ERROR")
(node,) = [n["NodeID"] for n in ray.nodes() if n["NodeManagerAddress"] == ip and n["Alive"]]
reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
deadline = int(1000 * (time.time() + float(seconds)))
print("DRAIN", *GcsClient(address=address).drain_node(node, reason, "taken away", deadline))
"""


class Node:
    """One node: `ray start --block` and all below it."""

    def __init__(
        self, arguments: Sequence[str], folder: Path, within: Sequence[str], env: Mapping[str, str]
    ) -> None:
        self.log = folder / f"node-{len(list(folder.glob('node-*')))}.log"
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                [*within, str(RAY), "start", "--block", "--disable-usage-stats", *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=dict(env),
            )

    @property
    def root(self) -> psutil.Process:
        return psutil.Process(self.process.pid)

    def wait(self) -> None:
        """Wait until Ray says that it has started."""
        wait_for(lambda: "Ray runtime started" in self.told or self._dead, 120, "no Ray")
        assert not self._dead, self.told

    @property
    def told(self) -> str:
        return self.log.read_text(encoding="utf-8")

    @property
    def _dead(self) -> bool:
        return self.process.poll() is not None

    def part(self, name: str) -> psutil.Process:
        """One of Ray's own processes, such as `raylet` or `gcs_server`."""
        (found,) = [p for p in family(self.root) if p.name() == name]
        return found

    def lose(self) -> None:
        """SIGKILL its raylet, and all below it goes."""
        relatives = [p for p in family(self.root) if not title(p).endswith("Agent")]
        for raylet in [p for p in relatives if p.name() == "raylet"]:
            raylet.kill()
        wait_for(lambda: not any(map(lives, relatives)), 60, "processes outlive their raylet")
        self.process.wait()

    def end(self) -> None:
        """Kill what is left of it."""
        relatives = family(self.root) if not self._dead else []
        for process in [*relatives, self.process]:
            if isinstance(process, subprocess.Popen) or lives(process):
                process.kill()
        self.process.wait()


class Cluster:
    """A head without CPUs, and the nodes that are added. Leaving the context ends all of them.

    `token` is what a search shows to join, as variables of its environment.
    """

    def __init__(
        self,
        ip: str = "127.0.0.1",
        within: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        """
        Args:
            ip: of the head.
            within: what the head is run by, such as `ip netns exec NAME`.
            env: settings of Ray on all nodes.
        """
        # Ray's sockets lie here, and a socket's path is short.
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        known = {k: v for k, v in os.environ.items() if k not in ELSEWHERE}
        self.token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.env = {**known, **SETTINGS, **self.token, **(env or {})}
        self.ip, self.port, self.within = ip, free_port(), within
        self.nodes: list[Node] = []
        head = [
            "--head", f"--port={self.port}", f"--dashboard-port={free_port()}",
            "--dashboard-host=127.0.0.1", f"--temp-dir={self.folder}",
            f"--ray-client-server-port={free_port()}",
            f"--dashboard-agent-listen-port={free_port()}",
        ]  # fmt: skip
        self.head = self._start(head, ip, within, 0, 0)

    @property
    def address(self) -> str:
        return f"{self.ip}:{self.port}"

    def add(
        self, ip: str = "127.0.0.1", within: Sequence[str] = (), cpus: int = 1, gpus: int = 0
    ) -> Node:
        """Start a node and wait for it; its GPUs are numbers only."""
        listen = f"--dashboard-agent-listen-port={free_port()}"
        return self._start([f"--address={self.address}", listen], ip, within, cpus, gpus)

    def _start(
        self, arguments: Sequence[str], ip: str, within: Sequence[str], cpus: int, gpus: int
    ) -> Node:
        sizes = [f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--object-store-memory={MEMORY}"]
        place = [f"--node-ip-address={ip}"]
        node = Node([*arguments, *place, *sizes], self.folder, within, self.env)
        self.nodes.append(node)
        node.wait()
        return node

    def look(self, trials: int, seconds: float = 60.0) -> dict[str, Any]:
        """Return what is used, once it is what so many trials of one CPU hold, or time is over.

        Returns:
            used, total: of {"CPU", "GPU"}; groups: states of the placement groups that hold some.
        """
        told = self._ask(LOOK, str(seconds), str(trials)).partition("LOOK")[2]
        found: dict[str, Any] = json.loads(told)
        return found

    def drain(self, ip: str, seconds: float) -> None:
        """Tell the cluster that a node will be gone in so many seconds; nothing ends it here."""
        assert "DRAIN True" in self._ask(DRAIN, ip, str(seconds))

    def _ask(self, script: str, *arguments: str) -> str:
        command = [*self.within, sys.executable, "-c", script, self.address, *arguments]
        found = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=300)
        assert found.returncode == 0, found.stderr
        return found.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for node in reversed(self.nodes):
            node.end()
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
