"""The tracking server stops answering, or dies: training goes on, and nothing stays unrecorded."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.commands.test_serving import free_port
from tests.commands.test_serving import wait_for as wait_for_answer
from tests.faults.searches import TRACKING, Search, wait_for
from tests.faults.test_checkpoints import Told

pytestmark = [
    pytest.mark.fault("tracking away"),
    pytest.mark.slow,
    # MLflow 3.17 uses a loader strategy that SQLAlchemy 2.1 will drop.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning"),
]
AWAY = 30.0


class Server:
    """A real `mlflow server`, in a group of its own that can be stopped, killed and begun anew."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        folder.mkdir()

    def start(self) -> None:
        log = self.folder / "log.txt"
        command = [
            str(Path(sys.executable).with_name("mlflow")), "server", "--host", "127.0.0.1",
            "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db",
            "--artifacts-destination", str(self.folder / "artifacts"),
        ]  # fmt: skip
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for_answer(f"{self.uri}/health", self.process, log)

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def assert_all_recorded(search: Search, server: Server) -> int:
    """Every epoch of every trial is in MLflow once; return how many there are."""
    client = MlflowClient(server.uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    trials = {int(r.data.tags["trial"]): r for r in runs if "trial" in r.data.tags}
    assert len(runs) == 1 + len(trials)
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    records = search.trials()
    assert sorted(trials) == [record.number for record in records]
    for record in records:
        told = client.get_metric_history(trials[record.number].info.run_id, "miou")
        assert sorted(m.step for m in told) == [m["epoch"] for m in record.history]
    return sum(len(record.history) for record in records)


def test_a_server_that_hangs_holds_nothing_up(tmp_path: Path, repetitions: Told) -> None:
    with serving(tmp_path / "server") as server:
        search = Search(tmp_path, budget={"trials": None, "epochs": 400})
        process = search.start("--minutes", "1.2", env={TRACKING: server.uri})
        wait_for(lambda: search.epochs() or process.poll() is not None, 300, "no epochs")
        server.signal(signal.SIGSTOP)
        began, before = time.monotonic(), search.epochs()
        time.sleep(AWAY)
        trained = search.epochs() - before
        server.signal(signal.SIGCONT)
        assert process.wait(timeout=300) == 0, search.output
        assert trained >= 5, f"{trained} epochs in {time.monotonic() - began:.0f} s"
        assert "Nothing is lost" not in search.output
        count = assert_all_recorded(search, server)
    repetitions(1, f"30 s away: {trained} epochs trained meanwhile, all {count} recorded")


def test_a_server_that_dies_is_filled_in_afterwards(tmp_path: Path, repetitions: Told) -> None:
    with serving(tmp_path / "server") as server:
        search = Search(tmp_path, budget={"trials": 3, "epochs": 12})
        process = search.start(env={TRACKING: server.uri})
        wait_for(lambda: search.epochs() or process.poll() is not None, 300, "no epochs")
        server.kill()
        assert process.wait(timeout=300) == 0, search.output
        words = " ".join(search.output.split())
        assert "Nothing is lost" in words
        assert "Traceback" not in words
        assert [record.epochs for record in search.trials()] == [12, 12, 12]
        server.start()
        filled = subprocess.run(
            [sys.executable, "-m", "raysearch.runs", "fill", "animals"],
            cwd=tmp_path,
            env={**os.environ, TRACKING: server.uri},
            capture_output=True,
            text=True,
            check=False,
        )
        assert filled.returncode == 0, filled.stdout + filled.stderr
        count = assert_all_recorded(search, server)
    repetitions(1, f"killed for good: all {count} epochs filled in from the run's files")
