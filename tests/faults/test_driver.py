"""The driver is killed with SIGKILL, at random moments; `--resume` finishes the search."""

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.searches import Search, assert_whole, kill, repeated, wait_for

SEED = 20
START_UP = 12.0  # seconds in which a kill may find a session that has not trained yet


@pytest.mark.fault("driver killed")
def test_a_driver_that_is_killed_loses_nothing(
    tmp_path: Path, repetitions: Callable[[int, str], None]
) -> None:
    budget = {"trials": 2, "epochs": 5, "first_rung": 1.0}
    _let_it_die(Search(tmp_path, budget=budget), 1, repetitions, trials=2, epochs=5)


@pytest.mark.slow
@pytest.mark.fault("driver killed")
def test_a_driver_killed_ten_times_loses_nothing(
    tmp_path: Path, repetitions: Callable[[int, str], None]
) -> None:
    budget = {"trials": 5, "epochs": 12, "first_rung": 1.0}
    _let_it_die(Search(tmp_path, budget=budget), 10, repetitions, trials=5, epochs=12)


def _let_it_die(
    search: Search,
    kills: int,
    repetitions: Callable[[int, str], None],
    trials: int,
    epochs: int,
) -> None:
    moments = random.Random(SEED)
    process, most = search.start(), 0
    for _ in range(kills):
        best, before = search.best(), search.times()
        _random_moment(search, process, moments)
        assert process.poll() is None, search.output
        kill(process)
        assert search.best() >= best
        most = max([most, *repeated(before, search).values()])
        best, before = search.best(), search.times()
        process = search.start(*(["--resume"] if search.found else []))
    assert process.wait(timeout=400) == 0, search.output
    assert search.best() >= best
    most = max([most, *repeated(before, search).values()])
    assert_whole(search, trials, epochs)
    assert most <= 1
    repetitions(kills, f"most epochs of a trial repeated after a kill: {most}")


def _random_moment(search: Search, process: subprocess.Popen[str], moments: random.Random) -> None:
    """Wait for a moment while the session starts, or somewhere in one of its next epochs."""
    more = moments.randrange(4)
    if more:
        wanted = search.epochs() + more
        wait_for(lambda: search.epochs() >= wanted or process.poll() is not None, 200, "no epoch")
    time.sleep(moments.uniform(0, 1.0 if more else START_UP))
