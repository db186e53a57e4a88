"""A search that knows secrets writes none of them down."""

import pytest

from raysearch import runs
from raysearch.records.report.page import write_report
from raysearch.records.run_folder import RunFolder
from tests.commands.conftest import TRACKING, Workplace

SECRET = "hunter2-Swordfish"


def test_a_search_leaves_no_secret_behind(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, services: str
) -> None:
    monkeypatch.setenv(TRACKING, f"http://user:{SECRET}@127.0.0.1:1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    told = workplace.tune("--trials", "1", "--epochs", "1")
    monkeypatch.setenv(TRACKING, f"sqlite:///{workplace.path / 'results' / 'mlflow.db'}")
    run = RunFolder.open(workplace.latest)
    run.describe(command=f"{run.info['command']} --storage s3://key:{SECRET}@bucket")
    assert runs.main(["fill", run.name]) == 0
    write_report(run)
    seen = [path for path in workplace.path.rglob("*") if path.is_file()]
    assert {"run.json", "report.html", "mlflow.db", "study.yaml"} <= {path.name for path in seen}
    assert [str(path) for path in seen if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in told
