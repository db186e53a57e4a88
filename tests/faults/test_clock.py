"""The clock of a node is an hour off: no duration is negative, and nothing is judged stale."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from raysearch.records.lock import this_process
from raysearch.records.run_folder import RunFolder
from raysearch.records.tracking import fill
from raysearch.training.clock import shared_clock
from raysearch.training.history import append_epoch
from tests.faults.searches import Search, assert_whole, kill, wait_for
from tests.records import fakes

Told = Callable[[int, str], None]
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
HOUR = 3600.0
EPOCHS = 30

# The driver keeps the true time, and every process that it starts has the other: Ray's own, and
# the workers. libfaketime 0.9 answers the way in which Python sleeps with an error.
SITE = f"""
import os, select, time
if "FAKETIME" in os.environ:
    time.sleep = lambda seconds: select.select([], [], [], seconds) and None
elif "NODE_CLOCK" in os.environ:
    os.environ |= {{
        "LD_PRELOAD": "{FAKETIME}", "FAKETIME": os.environ["NODE_CLOCK"],
        "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
    }}
"""

pytestmark = [
    pytest.mark.fault("clock off"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning"),
]
needs_faketime = pytest.mark.skipif(not FAKETIME.is_file(), reason="libfaketime is not installed")


def clock_of(folder: Path, offset: str) -> dict[str, str]:
    """Return the environment of a driver whose node has another clock."""
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    before = os.environ.get("PYTHONPATH", "")
    return {"NODE_CLOCK": offset, "PYTHONPATH": f"{site}{os.pathsep}{before}"}


@needs_faketime
@pytest.mark.parametrize("offset", ["+1h", "-1h"])
def test_the_shared_clock_is_that_of_the_files(
    tmp_path: Path, repetitions: Told, offset: str
) -> None:
    code = (
        "import sys, time; from pathlib import Path; from raysearch.training.clock import "
        "shared_clock; print(time.time(), shared_clock(Path(sys.argv[1]))())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "LD_PRELOAD": str(FAKETIME), "FAKETIME": offset, "NO_FAKE_STAT": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    own, shared = map(float, done.stdout.split())
    assert abs(abs(own - time.time()) - HOUR) < 120
    assert abs(shared - time.time()) < 120
    assert not list(tmp_path.iterdir())
    repetitions(1, f"a process at {offset} told the time of the files")


def test_the_shared_clock_is_the_own_where_they_agree(tmp_path: Path) -> None:
    assert abs(shared_clock(tmp_path)() - time.time()) < 1
    assert abs(shared_clock(tmp_path / "missing")() - time.time()) < 1


def test_who_owns_a_folder_does_not_depend_on_the_clock() -> None:
    """Seconds since the machine's start: setting the clock leaves them as they are."""
    assert 0 < this_process().started < time.clock_gettime(time.CLOCK_BOOTTIME)


@pytest.mark.parametrize("offset", [HOUR, -HOUR])
def test_mlflow_sees_no_negative_duration(
    tmp_path: Path, repetitions: Told, offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As older records hold them: a node that knew no other clock than its own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run, now = fakes.new_run(tmp_path / "results"), time.time()
    fakes.add_trial(run, 0, 0.5, epochs=0, state="running")
    fill(run)
    for epoch in (1, 2):
        append_epoch(run.trial_folder(0), fakes.metrics(epoch, 0.5, now + offset))
    run.end_trial(0, "completed", "max epochs", fakes.study().objective)
    fill(run)
    assert all(seconds >= 0 for seconds in mlflow_durations(run))
    repetitions(1, f"records at {offset / HOUR:+.0f} h")


def mlflow_durations(run: RunFolder) -> list[float]:
    client = MlflowClient(f"sqlite:///{run.output.absolute()}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert runs
    return [(one.info.end_time - one.info.start_time) / 1000 for one in runs]


@needs_faketime
@pytest.mark.slow
@pytest.mark.parametrize("offset", ["+1h", "-1h"])
def test_a_node_whose_clock_is_off(tmp_path: Path, repetitions: Told, offset: str) -> None:
    search = Search(tmp_path, budget={"trials": 3, "epochs": EPOCHS})
    began = time.time()
    process = search.start(env=clock_of(tmp_path, offset))
    wait_for(lambda: search.epochs() >= 8 or process.poll() is not None, 300, "no epochs")
    assert "running" in listed(tmp_path)
    kill(process)
    assert "interrupted" in listed(tmp_path)
    again = ["--resume", "--trials", "3", "--minutes", "20"]
    resumed = search.start(*again, env=clock_of(tmp_path, offset))
    assert resumed.wait(timeout=400) == 0, search.output
    took = time.time() - began
    assert_whole(search, trials=3, epochs=EPOCHS)
    assert search.found is not None
    summary, searched = search.found.summary(), search.found.clock()
    assert 0 < summary["seconds"] <= took
    assert 0 < summary["busy_share"] <= 1
    for record in search.trials():
        assert 0 < record.seconds <= took
        moments = [searched(m["time"]) for m in record.history]
        assert moments == sorted(moments)
        assert 0 < moments[0] < moments[-1] <= took
        assert all(m["began"] <= m["time"] for m in record.history)
        assert all(began <= m["time"] <= began + took for m in record.history)
    durations = mlflow_durations(search.found)
    assert all(0 <= seconds <= took for seconds in durations), durations
    repetitions(1, f"a search on a node at {offset}, killed and resumed")


def listed(folder: Path) -> str:
    """What `runs list` says of the search, which has taken no less than nothing."""
    command = [sys.executable, "-m", "raysearch.runs", "list"]
    told = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert not re.search(r" -\d", told), told
    return told
