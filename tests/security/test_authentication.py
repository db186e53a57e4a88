"""Clusters refuse whoever does not show their token, those that a search starts for itself too."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from raysearch.cluster.authentication import here, knock, make_private
from raysearch.cluster.joining import find_address, own_cluster
from raysearch.errors import ConfigError

TOKEN = "a" * 64
# Each holds its cluster until its standard input ends.
PRIVATE = """
import json, os, sys, ray
from raysearch import cluster
with cluster.joined("local", dashboard=True):
    seen = ray.get(ray.remote(lambda: os.environ["RAY_AUTH_TOKEN"]).remote())
    told = {"address": ray.get_runtime_context().gcs_address, "token": seen}
    print(json.dumps(told), flush=True)
    sys.stdin.read()
print(json.dumps({"after": [os.environ.get(f"RAY_AUTH_{name}") for name in ("MODE", "TOKEN")]}))
"""
STARTED_BY_HAND = """
import json, sys
from ray.cluster_utils import Cluster
cluster = Cluster(head_node_args={"num_cpus": 1, "include_dashboard": False}, initialize_head=True)
from ray._private.utils import write_ray_address
write_ray_address(cluster.address)  # As `ray start` does.
print(json.dumps({"address": cluster.address}), flush=True)
sys.stdin.read()
cluster.shutdown()
"""
JOINING = """
import json, os, sys, ray
from raysearch import cluster
from raysearch.errors import ConfigError
for address, environment in json.loads(sys.argv[1]):
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        with cluster.joined(address):
            print("in", ray.get(ray.remote(lambda: 7).remote()), flush=True)
    except ConfigError as error:
        print(error, flush=True)
    os.environ.clear()
    os.environ.update(before)
"""


def environment(home: Path, **more: str) -> dict[str, str]:
    """A user of his own: no token, no address, his Ray apart from that of others."""
    rest = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return {**rest, "HOME": str(home), "RAY_TMPDIR": str(home), "COLUMNS": "400", **more}


@contextmanager
def held(script: str, env: Mapping[str, str]) -> Iterator[tuple[dict[str, Any], subprocess.Popen]]:
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=env, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield json.loads(next(line for line in process.stdout if line.startswith("{"))), process
    finally:
        process.stdin.close()
        process.stdout.read()
        process.wait(timeout=100)
        process.stdout.close()


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="rs", dir="/tmp"))  # Sockets have short paths only.
    yield path
    shutil.rmtree(path, ignore_errors=True)


def joining(env: Mapping[str, str], *tries: tuple[str | None, dict[str, str]]) -> list[str]:
    """What comes of joining: "in 7", or the error's text, and what was said on the way."""
    done = subprocess.run(
        [sys.executable, "-c", JOINING, json.dumps(tries)], env=dict(env), text=True,
        capture_output=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [*done.stdout.splitlines(), *done.stderr.splitlines()]


def test_the_ray_of_a_search_lets_nobody_else_in(home: Path) -> None:
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("the user's own, of another cluster")
    with held(PRIVATE, environment(home)) as (told, process):
        assert knock(told["address"]) is grpc.StatusCode.UNAUTHENTICATED
        assert knock(told["address"], TOKEN) is grpc.StatusCode.UNAUTHENTICATED
        assert knock(told["address"], told["token"]) is grpc.StatusCode.OK
        assert len(told["token"]) == 64
        assert loopback_only(process.pid, "dashboard")
        (said,) = joining(environment(home), (told["address"], {}))
        assert "does not accept the token of" in said
        # It leaves no note, so that a search beside it starts a Ray of its own.
        assert not (home / "ray" / "ray_current_cluster").exists()
        process.stdin.close()  # type: ignore[union-attr]
        assert json.loads(process.stdout.readline()) == {"after": [None, None]}  # type: ignore[union-attr]
    assert (home / ".ray" / "auth_token").read_text() == "the user's own, of another cluster"


def loopback_only(pid: int, name: str) -> bool:
    """Whether the dashboard below a process listens, and at 127.0.0.1 alone."""
    places = [
        listening.laddr.ip
        for child in psutil.Process(pid).children(recursive=True)
        if any(part.endswith(f"{name}/{name}.py") for part in child.cmdline())
        for listening in child.net_connections("tcp")
        if listening.status == psutil.CONN_LISTEN and 8265 <= listening.laddr.port < 8365
    ]
    return bool(places) and set(places) == {"127.0.0.1"}


def test_a_cluster_with_a_token_is_joined_with_it_alone(home: Path) -> None:
    with held(STARTED_BY_HAND, environment(home, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)) as (
        told,
        _,
    ):
        address = told["address"]
        said = joining(
            environment(home),
            (address, {}),
            (address, {"RAY_AUTH_TOKEN": "b" * 64}),
            (address, {"RAY_AUTH_TOKEN": TOKEN}),
            (None, {"RAY_AUTH_TOKEN": TOKEN}),
            ("auto", {"RAY_AUTH_TOKEN": TOKEN}),
        )
    assert "the cluster demands its token; copy the head's ~/.ray/auth_token" in said[0]
    assert "does not accept the token of RAY_AUTH_TOKEN" in said[1]
    assert said[2:5] == ["in 7"] * 3
    assert sum(f"joining the Ray cluster at {address}" in line for line in said[5:]) == 2


def test_a_token_that_others_can_read_is_made_private_before_it_is_shown(home: Path) -> None:
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text(TOKEN)
    path.chmod(0o644)
    with held(STARTED_BY_HAND, environment(home, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)) as (
        told,
        _,
    ):
        said = joining(environment(home), (told["address"], {}))
    assert said[0] == "in 7"
    assert any("others could read" in line for line in said[1:])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_cluster_without_a_token_is_joined_here_with_a_warning(home: Path) -> None:
    with held(STARTED_BY_HAND, environment(home, RAY_AUTH_MODE="disabled")) as (told, _):
        address = told["address"]
        said = joining(
            environment(home), (address, {}), (address, {"RAY_AUTH_MODE": "token"}), ("local", {})
        )
    assert said[0] == "in 7"
    assert "runs code for anyone who can reach it" in said[1]
    assert said[2] == "in 7"
    assert any("warning:" in line and "no token is set" in line for line in said[3:])


def test_a_cluster_elsewhere_without_a_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from raysearch.cluster import authentication

    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(ConfigError, match="RAY_AUTH_MODE=disabled to join it as it is"):
        authentication.admit_without_token("192.0.2.77:6379")
    assert "RAY_AUTH_MODE" not in os.environ


def test_own_addresses() -> None:
    assert here("127.0.0.1:6379")
    assert here("localhost:6379")
    assert here("[::1]:6379")
    assert not here("192.0.2.77:6379")
    assert not here("no.such.host.invalid:6379")


def test_where_nobody_listens_nothing_is_waited_for() -> None:
    assert knock("127.0.0.1:1") is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("address", ["ray://head:10001", "http://127.0.0.1:8265", "head"])
def test_an_address_of_another_kind(address: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        find_address(address)


def test_an_address_is_taken_from_the_option_then_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    assert find_address("192.0.2.2:6379") == "192.0.2.2:6379"
    assert find_address() == "192.0.2.1:6379"
    assert find_address("local") is None
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert find_address() is None


def test_a_note_of_a_cluster_that_has_ended_is_no_cluster(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("127.0.0.1:6379")
    assert own_cluster(tmp_path / "note") is None
    assert own_cluster(tmp_path / "none") is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_note_of_another_user_is_no_cluster(home: Path) -> None:
    note = home / "ray" / "ray_current_cluster"
    with held(STARTED_BY_HAND, environment(home, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)) as (
        told,
        _,
    ):
        assert own_cluster(note) == told["address"]
        os.chown(note, 12345, 12345)
        assert own_cluster(note) is None


def test_a_private_file_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "token"
    assert not make_private(path)
    path.touch(0o600)
    assert not make_private(path)
    path.chmod(0o640)
    assert make_private(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
