"""What is between nodes: clocks, the network, authentication."""

import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest

from raysearch.diagnosis.authentication import (
    WRONG,
    check_dashboard,
    check_refusal,
    judge_mode,
    judge_token_file,
)
from raysearch.diagnosis.clock import judge_clock, offsets
from raysearch.diagnosis.network import all_reduce, check_all_reduce, judge_network, network
from raysearch.errors import RunError
from tests.diagnosis.fakes import answers


def test_a_clock_that_is_ahead_is_measured() -> None:
    def everywhere(function: Any, *arguments: Any) -> dict[str, Any]:
        return {"right": function(), "ahead": function() + 3600, "silent": RunError("gone")}

    found = offsets(everywhere)
    assert set(found) == {"right", "ahead"}
    for node, expected in (("right", 0), ("ahead", 3600)):
        ahead, half = found[node]
        assert abs(ahead - expected) <= half + 0.1


@pytest.mark.parametrize(
    ("ahead", "half", "storage", "verdict"),
    [
        (0.5, 0.01, "", "ok"),
        (-3.0, 0.01, "", "warning"),
        (3.0, 1.5, "", "ok"),  # Nothing is certain of a clock that answers late.
        (-3600.0, 0.01, "", "warning"),
        (3600.0, 0.01, "s3://bucket", "failed"),
        (30.0, 0.01, "gs://bucket", "warning"),
    ],
)
def test_clocks_matter_where_requests_are_signed(
    ahead: float, half: float, storage: str, verdict: str
) -> None:
    assert judge_clock("node", ahead, half, storage).verdict == verdict


NETS = {"lo": ["127.0.0.1"], "eth0": ["10.0.0.7"], "docker0": ["172.17.0.1"]}


@pytest.mark.parametrize(
    ("gloo", "nccl", "verdict"),
    [
        (None, None, "ok"),
        ("eth0", "eth0", "ok"),
        ("eth0", "^docker,lo", "ok"),
        ("eth0", "=eth0", "ok"),
        ("eth0", "eth", "ok"),
        ("eth", None, "failed"),
        ("ens5", None, "failed"),
        ("eth0", "=eth", "failed"),
        ("docker0", None, "warning"),
        ("eth0", "docker0", "warning"),
    ],
)
def test_interfaces(gloo: str | None, nccl: str | None, verdict: str) -> None:
    told = {"interfaces": NETS, "GLOO_SOCKET_IFNAME": gloo, "NCCL_SOCKET_IFNAME": nccl}
    assert judge_network("node", "10.0.0.7", told).verdict == verdict


def test_the_interface_of_an_address_is_found() -> None:
    told = {**network(), "GLOO_SOCKET_IFNAME": None, "NCCL_SOCKET_IFNAME": None}
    assert judge_network("node", "127.0.0.1", told).found.startswith("lo")


def test_sums_of_all_nodes() -> None:
    def verdicts(told: dict[str, Any]) -> list[tuple[str, str]]:
        found = check_all_reduce(answers(told), "127.0.0.1", 2)
        return [(result.node, result.verdict) for result in found]

    assert verdicts({"a": 3.0, "b": 3.0}) == [("all", "ok")]
    assert verdicts({"a": 3.0, "b": 1.0}) == [("b", "failed")]
    assert verdicts({"a": RunError("timed out"), "b": 3.0}) == [("a", "failed")]


def test_a_node_that_never_comes_ends_the_wait() -> None:
    import torch.distributed as dist

    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    begun = time.monotonic()
    with pytest.raises(RuntimeError):
        all_reduce("127.0.0.1", store.port, 2, 2.0)
    assert time.monotonic() - begun < 60
    assert not dist.is_initialized()


OK, REFUSED = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("without", "wrong", "verdicts"),
    [
        (REFUSED, REFUSED, ["ok", "ok"]),
        (OK, OK, ["failed", "failed"]),
        (REFUSED, OK, ["ok", "failed"]),
        (grpc.StatusCode.UNAVAILABLE, REFUSED, ["failed", "ok"]),
    ],
)
def test_a_cluster_must_refuse_both(without: Any, wrong: Any, verdicts: list[str]) -> None:
    answer = {"": without, WRONG: wrong}
    found = check_refusal("head:6379", lambda address, token: answer[token])
    assert [result.verdict for result in found] == verdicts


@pytest.mark.parametrize(("code", "verdict"), [(200, "failed"), (401, "ok"), (500, "warning")])
def test_the_dashboard_must_refuse_too(code: int, verdict: str) -> None:
    class Dashboard(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code if self.path == "/api/jobs/" else 404)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Dashboard) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        (result,) = check_dashboard(f"127.0.0.1:{server.server_port}")
        server.shutdown()
    assert result.verdict == verdict


def test_a_dashboard_that_is_not_there() -> None:
    assert check_dashboard("") == []
    assert check_dashboard("127.0.0.1:9")[0].verdict == "ok"


@pytest.mark.parametrize(
    ("mode", "needed", "verdict"),
    [(0o600, True, "ok"), (0o644, True, "failed"), (0o644, False, "warning")],
)
def test_token_files(tmp_path: Path, mode: int, needed: bool, verdict: str) -> None:
    path = tmp_path / "auth_token"
    path.write_text("0" * 64)
    path.chmod(mode)
    assert judge_token_file(path, needed).verdict == verdict


def test_a_token_is_missed_where_it_is_needed_alone(tmp_path: Path) -> None:
    assert judge_token_file(tmp_path / "none", needed=True).verdict == "failed"
    assert judge_token_file(tmp_path / "none", needed=False).verdict == "ok"


@pytest.mark.parametrize(
    ("mode", "needed", "verdict"),
    [("token", True, "ok"), (None, True, "warning"), ("disabled", True, "failed"),
     (None, False, "ok"), ("disabled", False, "ok")],
)  # fmt: skip
def test_modes(mode: str | None, needed: bool, verdict: str) -> None:
    assert judge_mode(mode, needed).verdict == verdict
