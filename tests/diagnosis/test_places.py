"""Disks, shared storage and tracking, each as it should be and as it should not."""

import os
from pathlib import Path
from typing import Any

import pytest

from raysearch.diagnosis.disk import disk, judge_disk
from raysearch.diagnosis.result import HERE
from raysearch.diagnosis.storage import check_alone, check_shared, judge_read, kept_as_it_was
from raysearch.diagnosis.tracking import check_tracking
from raysearch.records.mlflow_tree import connect
from tests.diagnosis.fakes import everywhere, same, silent


@pytest.mark.parametrize(("free", "verdict"), [(50e9, "ok"), (5e9, "warning"), (0.2e9, "failed")])
def test_free_disk(free: float, verdict: str) -> None:
    (result,) = judge_disk("node", {"/runs": {"free": free, "writable": True}}, {"/runs": "runs"})
    assert (result.check, result.verdict) == ("disk for runs", verdict)


def test_a_folder_that_is_not_there_yet_is_looked_up_above(tmp_path: Path) -> None:
    place = str(tmp_path / "a" / "b")
    assert disk([place])[place]["writable"]
    assert disk([place])[place]["free"] > 0
    assert not (tmp_path / "a").exists()


def test_a_file_in_the_way_of_a_folder_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = str(tmp_path / "file" / "runs")
    (result,) = judge_disk("node", disk([place]), {place: "runs"})
    assert (result.verdict, "cannot be written" in result.found) == ("failed", True)


def test_storage_of_this_machine(tmp_path: Path) -> None:
    assert check_alone(str(tmp_path)).verdict == "ok"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["s4://bucket/runs", "s3://user:password@bucket/runs"])
def test_storage_that_cannot_be_used_fails(uri: str) -> None:
    result = check_alone(uri)
    assert result.verdict == "failed"
    assert "password" not in result.found


def test_nodes_that_share_a_folder(tmp_path: Path) -> None:
    results = check_shared(everywhere({"a": same, "b": same}), str(tmp_path))
    assert [(result.node, result.verdict) for result in results] == [("a", "ok"), ("b", "ok")]
    assert list(tmp_path.iterdir()) == []


def test_a_node_that_sees_another_folder_fails_and_writes_nothing(tmp_path: Path) -> None:
    shared, other = tmp_path / "shared", tmp_path / "other"
    nodes = everywhere({"a": same, "b": lambda arguments: (str(other), *arguments[1:])})
    results = {result.node: result for result in check_shared(nodes, str(shared))}
    assert {node: result.verdict for node, result in results.items()} == {"a": "ok", "b": "failed"}
    assert "does not see what" in results["b"].found
    assert not other.exists()


def test_a_node_that_does_not_answer_fails_once(tmp_path: Path) -> None:
    results = check_shared(everywhere({"a": same, "b": silent}), str(tmp_path))
    assert sorted((result.node, result.verdict) for result in results) == [
        ("a", "ok"), ("b", "failed"),
    ]  # fmt: skip


def test_storage_that_not_even_this_machine_writes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (result,) = check_shared(everywhere({"a": same}), str(tmp_path / "file"))
    assert (result.node, result.verdict) == (HERE, "failed")


def test_a_node_that_misses_what_one_other_wrote_is_told_whose() -> None:
    files = {"a": ("one", "text of a"), "b": ("two", "text of b")}
    result = judge_read("/runs", "a", files, ["text of a", ""])
    assert (result.verdict, result.found) == ("failed", "/runs: does not see what b wrote")


def test_folders_that_were_made_to_look_are_removed(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    with kept_as_it_was(deep):
        deep.mkdir(parents=True)
    assert list(tmp_path.iterdir()) == []
    with kept_as_it_was(deep):
        deep.mkdir(parents=True)
        (deep / "kept").touch()
    assert (deep / "kept").exists()


@pytest.fixture
def uri(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_uri(value: str | None) -> None:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        if value:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", value)

    return set_uri


def test_tracking_database_is_made_later_or_answers(tmp_path: Path, uri: Any) -> None:
    uri(None)
    assert check_tracking(tmp_path).found.endswith("mlflow.db: made by the first search")
    assert list(tmp_path.iterdir()) == []
    connect(f"sqlite:///{tmp_path}/mlflow.db").create_experiment("one")
    assert check_tracking(tmp_path).found.endswith("mlflow.db answers")


def test_tracking_that_is_no_database_fails(tmp_path: Path, uri: Any) -> None:
    uri(None)
    (tmp_path / "mlflow.db").write_text("this is no database, and never was one\n" * 40)
    assert check_tracking(tmp_path).verdict == "failed"


def test_tracking_server_that_is_away_fails_without_its_password(tmp_path: Path, uri: Any) -> None:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri("http://me:verysecret@127.0.0.1:9")
    result = check_tracking(tmp_path)
    assert result.verdict == "failed"
    assert "verysecret" not in result.found
