"""What runs on the nodes beside Ray: the ranking of machines, tracking, EC2's notice."""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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


@pytest.fixture
def node(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine whose `ray` and `sudo` only write down what they are told.

    It has a raylet while the file `raylet` is there.
    """
    told = 'echo "$(basename "$0") $*" >> "$(dirname "$0")/told"'
    alive = 'test -e "$(dirname "$0")/raylet"'
    for name, does in {"ray": told, "sudo": told, "pgrep": alive}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "no_proxy": "127.0.0.1"}
    env |= {"RAYSEARCH_WATCH_SECONDS": "0.1", "RAYSEARCH_WATCH_PATIENCE_SECONDS": "2"}
    return env | {"RAYSEARCH_METADATA": "http://127.0.0.1:9/latest"}  # Nobody answers there.


@contextmanager
def watching(env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["bash", CLUSTER / "watch.sh"], env=env, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_notice_of_ec2_drains_the_node_once(
    metadata: str, node: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "raylet").touch()
    with watching({**node, "RAYSEARCH_METADATA": metadata}) as watch:
        wait_for((tmp_path / "told").exists)
        time.sleep(1)
        assert watch.poll() is None
    (told,) = (tmp_path / "told").read_text().splitlines()
    assert told.startswith("ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION ")
    assert Metadata.asked == 3


def test_a_machine_without_a_raylet_shuts_itself_down(node: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "raylet").touch()
    with watching(node) as watch:
        time.sleep(4)  # Longer than its patience: a raylet that lives keeps the machine.
        assert watch.poll() is None
        assert not (tmp_path / "told").exists()
        (tmp_path / "raylet").unlink()
        assert watch.wait(timeout=60) == 0
    assert (tmp_path / "told").read_text() == "sudo shutdown -h now\n"


def test_a_machine_that_ray_never_starts_on_shuts_itself_down(
    node: dict[str, str], tmp_path: Path
) -> None:
    with watching(node) as watch:
        assert watch.wait(timeout=60) == 0
    assert (tmp_path / "told").read_text() == "sudo shutdown -h now\n"


class TestStartOfAWorker:
    """The lines of cluster.yaml that start Ray on a GPU machine, in a home of their own."""

    @pytest.fixture
    def start(self, node: dict[str, str], tmp_path: Path) -> Iterator[Callable[[], list[int]]]:
        (tmp_path / ".ray").mkdir()
        (tmp_path / "raysearch").mkdir()
        (tmp_path / "raysearch/cluster").symlink_to(CLUSTER)
        programs = tmp_path / "raysearch/.venv/bin"  # environment.sh puts it first.
        programs.mkdir(parents=True)
        (programs / "ray").write_text('#!/bin/sh\ntest "$1" != start || test -e ~/raylet\n')
        (programs / "ray").chmod(0o755)
        env = {**node, "HOME": str(tmp_path), "RAY_HEAD_IP": "192.0.2.1"}
        (config,) = read_documents(ROOT / "cluster.yaml")

        def start() -> list[int]:
            return [
                subprocess.run(["bash", "-c", line], env=env, check=False, timeout=60).returncode
                for line in config["worker_start_ray_commands"]
            ]

        yield start
        # The watcher ends by itself where no raylet is; the lock is free when it has.
        (tmp_path / "raylet").unlink(missing_ok=True)
        subprocess.run(["flock", tmp_path / ".ray/watch.lock", "true"], check=True, timeout=60)

    def test_a_failure_of_ray_is_seen(self, start: Callable[[], list[int]]) -> None:
        assert start() == [0, 0, 1]

    def test_one_watcher_stays_however_often_ray_is_started(
        self, start: Callable[[], list[int]], tmp_path: Path
    ) -> None:
        (tmp_path / "raylet").touch()
        assert start() == start() == [0, 0, 0]
        lock = tmp_path / ".ray/watch.lock"
        held = subprocess.run(["flock", "--nonblock", lock, "true"], check=False)
        assert held.returncode == 1
        (tmp_path / "raylet").unlink()
        subprocess.run(["flock", lock, "true"], check=True, timeout=60)
        assert (tmp_path / "told").read_text() == "sudo shutdown -h now\n"


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
    wait_for(lambda: answers(env) is condition)


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
