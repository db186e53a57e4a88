"""What runs on the nodes beside Ray: the ranking of machines, tracking, EC2's notice."""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from ray.autoscaler._private.node_provider_availability_tracker import (
    NodeProviderAvailabilityTracker,
)
from ray.autoscaler._private.resource_demand_scheduler import ResourceDemandScheduler
from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import NODE_KIND_HEAD, TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

from raysearch.cluster.files import read_documents

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "cluster"


class Head(NodeProvider):  # type: ignore[misc]
    """A cloud with nothing but the head."""

    def __init__(self) -> None:
        super().__init__({}, "test")

    def node_tags(self, node_id: str) -> dict[str, str]:
        return {TAG_RAY_NODE_KIND: NODE_KIND_HEAD, TAG_RAY_USER_NODE_TYPE: "head"}

    def internal_ip(self, node_id: str) -> str:
        return "10.0.0.1"


class TestFallback:
    """Ray's own first autoscaler on cluster.yaml, with the ranking that environment.sh names."""

    @pytest.fixture(autouse=True)
    def scorer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        line = next(
            line
            for line in (CLUSTER / "environment.sh").read_text(encoding="utf-8").splitlines()
            if "UTILIZATION_SCORER" in line
        )
        monkeypatch.setenv(*line.removeprefix("export ").split("=", 1))

    def launched(
        self, refused: Sequence[str] = (), trials: int = 1, ago: float = 0
    ) -> dict[str, int]:
        """What is launched for trials of 4 GPUs, after these types were refused."""
        (config,) = read_documents(ROOT / "cluster.yaml")
        tracker = NodeProviderAvailabilityTracker()
        for name in refused:
            why = NodeLaunchException("InsufficientInstanceCapacity", "none left", None)
            tracker.update_node_availability(name, int(time.time() - ago), why)
        types, most = config["available_node_types"], config["max_workers"]
        scheduler = ResourceDemandScheduler(Head(), types, most, "head", 1.0)
        wanted = [{"CPU": 48, "GPU": 4}] * trials
        found, _ = scheduler.get_nodes_to_launch(
            ["head"], {}, wanted, {"10.0.0.1": {}}, [], {}, [], tracker.summary()
        )
        return {name: count for name, count in found.items() if count}

    def test_spot_comes_first(self) -> None:
        assert self.launched(trials=3) == {"gpu_spot": 3}

    def test_on_demand_stands_in_while_spot_is_refused(self) -> None:
        assert self.launched(refused=["gpu_spot"], trials=3) == {"gpu_on_demand": 3}

    def test_spot_is_asked_for_again_after_half_an_hour(self) -> None:
        assert self.launched(refused=["gpu_spot"], ago=31 * 60) == {"gpu_spot": 1}

    def test_refused_types_are_still_asked_for_where_nothing_else_is_left(self) -> None:
        assert self.launched(refused=["gpu_spot", "gpu_on_demand"]) == {"gpu_spot": 1}

    def test_no_more_than_the_cluster_may_have(self) -> None:
        assert sum(self.launched(trials=9).values()) == 4

    def test_ray_alone_would_ask_for_the_refused_type_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("RAY_AUTOSCALER_UTILIZATION_SCORER")
        assert self.launched(refused=["gpu_spot"]) == {"gpu_spot": 1}


class Metadata(BaseHTTPRequestHandler):
    """EC2's metadata: a notice from the third question on, to whoever shows the session token."""

    asked = 0

    def do_PUT(self) -> None:
        self._answer(200, b"session")

    def do_GET(self) -> None:
        type(self).asked += 1
        assert self.path.endswith("/meta-data/spot/instance-action")
        assert self.headers["X-aws-ec2-metadata-token"] == "session"
        self._answer(200 if self.asked > 2 else 404, b'{"action": "terminate"}')

    def _answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Metadata)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/latest"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_notice_of_ec2_drains_the_node(metadata: str, tmp_path: Path) -> None:
    ray = tmp_path / "ray"
    ray.write_text('#!/bin/sh\necho "$@" > "$(dirname "$0")/told"\n')
    ray.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "no_proxy": "127.0.0.1"}
    env |= {"RAYSEARCH_METADATA": metadata, "RAYSEARCH_METADATA_SECONDS": "0.1"}
    subprocess.run(["bash", CLUSTER / "spot_notice.sh"], env=env, check=True, timeout=60)
    told = (tmp_path / "told").read_text()
    assert told.startswith("drain-node --reason DRAIN_NODE_REASON_PREEMPTION ")
    assert Metadata.asked == 3


@pytest.fixture
def tracking(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a tracking server of its own, which is stopped afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    env |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    env |= {"RAYSEARCH_TRACKING": str(tmp_path / "records"), "RAYSEARCH_TRACKING_PORT": str(port)}
    yield env
    call(env, "stop")


def call(env: dict[str, str], word: str, code: int = 0) -> None:
    done = subprocess.run([CLUSTER / "tracking.sh", word], env=env, check=False, timeout=60)
    assert done.returncode == code


def answers(env: dict[str, str]) -> bool:
    url = f"http://127.0.0.1:{env['RAYSEARCH_TRACKING_PORT']}/health"
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url) as told:
            return bool(told.status == 200)
    except urllib.error.URLError:
        return False


def until(condition: bool, env: dict[str, str]) -> None:
    deadline = time.monotonic() + 120
    while answers(env) is not condition:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_tracking_starts_once_and_stops(tracking: dict[str, str]) -> None:
    folder = Path(tracking["RAYSEARCH_TRACKING"])
    call(tracking, "start")
    until(True, tracking)
    first = (folder / "server.pid").read_text()
    call(tracking, "start")
    held = subprocess.run(["flock", "--nonblock", folder / "server.lock", "true"], check=False)
    assert held.returncode == 1
    assert (folder / "server.pid").read_text() == first
    assert answers(tracking)
    assert folder.stat().st_mode & 0o077 == 0
    call(tracking, "stop")
    until(False, tracking)
    call(tracking, "stop")
    call(tracking, "begin", code=2)
