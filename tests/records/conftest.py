"""A run folder, and an MLflow database whose tables are made once for all tests."""

import shutil
from pathlib import Path

import pytest

from raysearch.records.mlflow_tree import DATABASE, connect
from raysearch.records.run_folder import RunFolder
from tests.records.fakes import new_run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return new_run(tmp_path / "results")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / DATABASE
    connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def recorded_run(
    run: RunFolder, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> RunFolder:
    """A run beside an empty MLflow database."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_database, run.output / DATABASE)
    return run
