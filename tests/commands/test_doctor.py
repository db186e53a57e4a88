"""The doctor on this machine alone, and on nodes that `ray start` has started."""

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from raysearch import doctor
from raysearch.diagnosis.cluster_file import ssh_host
from raysearch.records.terminal.diagnosed import show_diagnosis
from raysearch.records.terminal.text import make_console
from tests.faults.nodes import Cluster

ROOT = Path(__file__).parents[2]
TRACKING = "MLFLOW_TRACKING_URI"


def run(folder: Path, env: Mapping[str, str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run the command as a user does; return its exit code, what it wrote, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "raysearch.doctor", "--json", "found.json", *arguments],
        cwd=folder, env={**env, "COLUMNS": "120"}, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert (folder / "found.json").exists(), done.stdout + done.stderr
    return done.returncode, json.loads((folder / "found.json").read_text()), done.stdout


def verdicts(found: Mapping[str, Any], check: str) -> dict[str, str]:
    return {r["node"]: r["verdict"] for r in found["results"] if r["check"] == check}


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, on a machine whose user has no token, no tracking server and no cluster."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    for name in (TRACKING, "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_all_is_well_on_a_machine_alone(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--address", "local", "--json", "found.json"]) == 0
    found = json.loads((alone / "found.json").read_text())
    assert found["passed"]
    assert {r["check"] for r in found["results"] if r["verdict"] != "ok"} <= {
        "disk for the cache", "disk for runs", "GPU memory",
    }  # fmt: skip
    assert "trains on the CPU" in capsys.readouterr().out or verdicts(found, "driver")
    assert [path.name for path in alone.iterdir()] == ["found.json"]


def test_storage_is_tried(alone: Path) -> None:
    assert doctor.main(["--address", "local", "--storage", str(alone / "runs")]) == 0
    assert doctor.main(["--address", "local", "--storage", "s4://bucket/runs"]) == 1


def test_a_cluster_that_cannot_start_fails(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = {
        "cluster_name": "test",
        "provider": {"type": "local", "head_ip": "CHANGE.invalid", "worker_ips": []},
        "auth": {"ssh_user": "me", "ssh_private_key": str(alone / "key")},
    }
    (alone / "cluster.yaml").write_text(yaml.safe_dump(cluster))
    assert doctor.main(["cluster.yaml", "--address", "local", "--json", "found.json"]) == 1
    found = json.loads((alone / "found.json").read_text())
    failed = {r["check"] for r in found["results"] if r["verdict"] == "failed"}
    assert failed == {"values to change", "ssh key", "token"}
    told = capsys.readouterr().out
    assert "ssh key, this machine: `ssh-keygen" in told
    assert all(result["repair"] for result in found["results"] if result["verdict"] != "ok")


def test_a_host_without_an_ssh_server_is_told() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        found = ssh_host("127.0.0.1", port)
        server.listen()
        answers = ssh_host("127.0.0.1", port)
    assert (found.verdict, answers.verdict) == ("failed", "ok")
    assert f"port {port}: Connection refused" in found.found
    assert "start its sshd" in found.repair


@pytest.mark.parametrize("name", ["kuberay.yaml", "kuberay_volume.yaml"])
def test_what_kubernetes_starts_needs_no_token_of_this_user(alone: Path, name: str) -> None:
    text = (ROOT / "cluster" / name).read_text(encoding="utf-8")
    (alone / name).write_text(text.replace("CHANGE-", "my-"), encoding="utf-8")
    assert doctor.main([name, "--address", "local"]) == 0


@pytest.mark.parametrize("arguments", [["none.yaml"], ["--address", "nowhere"]])
def test_bad_input(alone: Path, arguments: list[str]) -> None:
    assert doctor.main(arguments) == 2


def test_nodes_of_a_cluster_are_well_together(tmp_path: Path) -> None:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with Cluster(env=token) as cluster:
        cluster.add()
        code, found, told = run(tmp_path, cluster.env, "--address", cluster.address)
    assert code == 0, told
    assert verdicts(found, "authentication") == {cluster.address: "ok"}
    assert list(verdicts(found, "all-reduce").values()) == ["ok"]
    for check in ("Python", "torch", "raysearch", "storage", "clock", "network", "disk for runs"):
        assert len(verdicts(found, check)) == 2, check
    assert token["RAY_AUTH_TOKEN"] not in told
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


@pytest.mark.slow
def test_a_cluster_that_lets_anyone_in_fails(tmp_path: Path) -> None:
    with Cluster(env={"RAY_AUTH_MODE": "disabled"}) as cluster:
        code, found, told = run(tmp_path, cluster.env, "--address", cluster.address)
    assert code == 1
    assert "lets in a client with no token" in told
    assert verdicts(found, "authentication") == {cluster.address: "failed"}


@pytest.mark.slow
def test_a_client_with_another_token_is_told_so(tmp_path: Path) -> None:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with Cluster(env=token) as cluster:
        other = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        code, found, _ = run(tmp_path, other, "--address", cluster.address)
    assert code == 1
    assert verdicts(found, "joining") == {cluster.address: "failed"}


def row(check: str, node: str, verdict: str = "ok", found: str = "1", repair: str = "") -> Any:
    return {"check": check, "node": node, "found": found, "verdict": verdict, "repair": repair}


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_and_nodes_that_are_alike_share_a_row(
    width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row("Ray", f"10.0.0.{n}", found="2.60.0") for n in range(9)]
    rows += [row("torch", "10.0.0.1"), row("torch", "10.0.0.2", "failed", "2 [x] " * 40, "again")]
    show_diagnosis(make_console(width=width), rows)
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= width for line in lines)
    assert sum("2.60.0" in line for line in lines) == 1
    assert "all 9" in lines[1]
    assert "torch, 10.0.0.2: again" in lines
    assert lines[-1] == "1 failed, 0 warnings"
