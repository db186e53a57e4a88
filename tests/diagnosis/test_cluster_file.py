"""A cluster file and what it names: valid, and with each thing missing."""

import copy
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from raysearch.diagnosis.cluster_file import (
    aws_credentials,
    check_file,
    leftovers,
    mounts,
    ssh_host,
    ssh_key,
)
from raysearch.diagnosis.result import Result
from raysearch.errors import ConfigError

GOOD: dict[str, Any] = {
    "cluster_name": "test",
    "provider": {"type": "local", "head_ip": "127.0.0.1", "worker_ips": []},
    "auth": {"ssh_user": "me"},
}


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., dict[str, Result]]:
    def check(**changes: Any) -> dict[str, Result]:
        path = tmp_path / "cluster.yaml"
        path.write_text(yaml.safe_dump({**copy.deepcopy(GOOD), **changes}))
        return {result.check: result for result in check_file(path)}

    return check


def test_a_good_file(check: Callable[..., dict[str, Result]]) -> None:
    found = check()
    assert {"cluster file", "values to change", "ssh key", "file mounts", "ssh"} == set(found)
    assert {result.verdict for name, result in found.items() if name != "ssh"} == {"ok"}


def test_a_misspelt_key_fails(check: Callable[..., dict[str, Result]]) -> None:
    found = check(idle_timeout_minute=5)["cluster file"]
    assert found.verdict == "failed"
    assert "idle_timeout_minute" in found.found


@pytest.mark.parametrize("text", ["[a, list]", "a: [", ""])
def test_what_is_no_cluster_file_is_bad_input(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"cluster\.yaml"):
        check_file(tmp_path / "cluster.yaml")


def test_no_such_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        check_file(tmp_path / "none.yaml")


def test_values_that_wait_to_be_filled_in_are_named() -> None:
    types = {"gpu": {"node_config": {"ImageId": "ami-CHANGE"}}}
    found = leftovers([{"available_node_types": types}, {"images": ["CHANGE/raysearch:1"]}])
    assert [(result.found, result.verdict) for result in found] == [
        ("available_node_types.gpu.node_config.ImageId: ami-CHANGE", "failed"),
        ("images.0: CHANGE/raysearch:1", "failed"),
    ]


def test_ssh_keys(tmp_path: Path) -> None:
    path = tmp_path / "key"
    auth = {"ssh_private_key": str(path)}
    assert ssh_key(auth).verdict == "failed"
    path.touch(0o644)
    path.chmod(0o644)
    assert "0644" in ssh_key(auth).found
    assert ssh_key(auth).verdict == "failed"
    path.chmod(0o600)
    assert ssh_key(auth).verdict == "ok"


def test_what_is_copied_must_be_there(tmp_path: Path) -> None:
    assert mounts({"~/there": str(tmp_path)}).verdict == "ok"
    found = mounts({"~/there": str(tmp_path), "~/other": str(tmp_path / "other")})
    assert (found.verdict, found.found) == ("failed", f"missing: {tmp_path / 'other'}")


@pytest.fixture
def without_aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


@pytest.mark.usefixtures("without_aws")
def test_aws_credentials_are_found_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert aws_credentials().verdict == "failed"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAVERYPRIVATE00000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "verysecret")
    found = aws_credentials()
    assert (found.verdict, found.found) == ("ok", "AWS: found (env)")


@pytest.mark.usefixtures("without_aws")
def test_an_unknown_aws_profile_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert aws_credentials().verdict == "failed"


def test_hosts_must_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert ssh_host("127.0.0.1", port).verdict == "ok"
    assert ssh_host("127.0.0.1", port).verdict == "failed"
