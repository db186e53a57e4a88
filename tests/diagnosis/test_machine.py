"""Versions, GPUs and limits: what is told of this machine, and each verdict on a made-up one."""

import os
from pathlib import Path
from typing import Any

import pytest

from raysearch.diagnosis.machine import (
    VERSIONS,
    judge_gpus,
    judge_open_files,
    judge_versions,
    machine,
    query_gpus,
    read_gpus,
    source_digest,
)
from raysearch.limits import NEEDED

TWO = "NVIDIA A10G, 570.86, 8.6, 23028, 22587\nNVIDIA A10G, 570.86, 8.6, 23028, 22100\n"
SMI = """#!/bin/sh
test "$1" = --query-gpu=name,driver_version,compute_cap,memory.total,memory.free || exit 1
printf '{told}'
"""


@pytest.fixture(scope="module")
def own() -> dict[str, Any]:
    return machine()


def with_gpus(told: str, usable: int = 2, **changes: Any) -> dict[str, Any]:
    facts = {"gpus": read_gpus(told), "usable": usable, "hidden": False, "driver": ""}
    return {**facts, "CUDA": "13.0", "architectures": ["sm_80", "sm_86"], **changes}


def verdicts(told: dict[str, Any], promised: float = 0) -> dict[str, str]:
    return {result.check: result.verdict for result in judge_gpus("node", told, promised)}


def test_a_machine_tells_all_versions(own: dict[str, Any]) -> None:
    assert all(own[name] not in ("", "none") for name in VERSIONS)
    results = judge_versions({"a": own, "b": own}, own)
    assert [result.verdict for result in results] == ["ok"] * 2 * len(VERSIONS)


@pytest.mark.parametrize("name", VERSIONS)
def test_a_node_with_another_version_fails(name: str, own: dict[str, Any]) -> None:
    results = judge_versions({"a": own, "b": {**own, name: "0.9"}}, own)
    failed = [(result.check, result.node) for result in results if result.verdict == "failed"]
    assert failed == [(name, "b")]


def test_code_that_differs_in_one_file_has_another_digest(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    before = source_digest(tmp_path)
    assert source_digest(tmp_path) == before
    (tmp_path / "a.py").write_text("x = 2\n")
    assert source_digest(tmp_path) != before


def test_the_driver_is_asked_for_its_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI.format(told=TWO.replace("\n", "\\n")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    gpus, driver = query_gpus()
    assert [gpu["memory.free"] for gpu in gpus] == [22587 * 2**20, 22100 * 2**20]
    assert driver == ""


@pytest.mark.parametrize(
    ("makers", "verdict"),
    [
        (["0x8086", "0x10de"], "failed"),
        (["0x8086"], "ok"),  # The driver is of the image; there is no card for it.
        ([], "failed"),
    ],
)
def test_a_driver_that_does_not_answer_for_its_card_fails(
    makers: list[str], verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for slot, maker in enumerate(makers):
        (tmp_path / f"pci/{slot}").mkdir(parents=True)
        (tmp_path / f"pci/{slot}/vendor").write_text(f"{maker}\n")
    gpus, driver = query_gpus(tmp_path / "pci")
    (result,) = judge_gpus("node", with_gpus("", usable=0, driver=driver))
    assert (gpus, result.verdict) == ([], verdict)
    assert driver == ("nvidia-smi fails (9)" if verdict == "failed" else "")
    assert ("nvidia-smi" in result.repair) is (verdict == "failed")


def test_gpus_that_torch_can_use_are_well() -> None:
    results = judge_gpus("node", with_gpus(TWO), promised=2)
    assert [result.verdict for result in results] == ["ok"] * 3
    assert [result.found for result in results] == [
        "570.86", "2 x NVIDIA A10G", "23 GB of 24 GB free",
    ]  # fmt: skip


def test_no_gpu_is_no_failure_unless_ray_was_promised_one() -> None:
    assert verdicts(with_gpus("", usable=0)) == {"GPUs": "ok"}
    assert verdicts(with_gpus("", usable=0), promised=4) == {"GPUs": "failed"}
    assert verdicts(with_gpus(TWO), promised=4) == {"GPUs": "failed"}


def test_gpus_that_torch_cannot_use_fail() -> None:
    assert verdicts(with_gpus(TWO, usable=0))["GPUs"] == "failed"
    assert verdicts(with_gpus(TWO, usable=1, hidden=True))["GPUs"] == "ok"


def test_a_gpu_without_kernels_fails() -> None:
    assert verdicts(with_gpus(TWO, architectures=["sm_90"]))["GPUs"] == "failed"


def test_memory_that_others_hold_is_a_warning() -> None:
    told = with_gpus("NVIDIA A10G, 570.86, 8.6, 23028, 9000\n", usable=1)
    assert verdicts(told)["GPU memory"] == "warning"


def test_a_divided_gpu_does_not_tell_its_memory() -> None:
    told = with_gpus("NVIDIA H100, 570.86, 8.6, [N/A], [N/A]\n", usable=1)
    assert verdicts(told)["GPU memory"] == "ok"


@pytest.mark.parametrize(("hard", "verdict"), [(NEEDED, "ok"), (NEEDED - 1, "failed")])
def test_open_files(hard: int, verdict: str) -> None:
    assert judge_open_files("node", {"open_files": [256, hard]}).verdict == verdict
