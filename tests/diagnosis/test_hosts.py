"""The machines that an autoscaler's configuration names, and those that have joined."""

import subprocess
import sys
import time
from pathlib import Path

import yaml

from raysearch.diagnosis.hosts import hosts, judge_hosts

GCS = "192.0.2.1:6379"


def test_hosts_are_those_of_the_heads_configuration(tmp_path: Path) -> None:
    config = {"provider": {"type": "local", "worker_ips": ["192.0.2.2", "localhost"]}}
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    waits = [sys.executable, "-c", "input()", f"--gcs-address={GCS}"]
    monitor = subprocess.Popen([*waits, f"--autoscaling-config={path}"], stdin=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while not hosts(GCS) and time.monotonic() < deadline:
            time.sleep(0.05)  # It takes a moment until the process has its own arguments.
        assert hosts(GCS) == {"192.0.2.2": "192.0.2.2", "localhost": "127.0.0.1"}
        assert hosts("192.0.2.9:6379") == {}
    finally:
        monitor.communicate(b"\n")


def test_a_host_that_has_not_joined_is_a_warning() -> None:
    named = {"worker-1": "192.0.2.2", "worker-2": "192.0.2.3"}
    (found,) = judge_hosts(named, {"192.0.2.1", "192.0.2.2"})
    assert (found.node, found.found, found.verdict) == ("worker-2", "has not joined", "warning")
    assert "ray monitor" in found.repair


def test_hosts_that_have_all_joined_are_well() -> None:
    (found,) = judge_hosts({"worker-1": "192.0.2.2"}, {"192.0.2.1", "192.0.2.2"})
    assert (found.found, found.verdict) == ("worker_ips: all 1 have joined", "ok")
    assert judge_hosts({}, {"192.0.2.1"}) == []
