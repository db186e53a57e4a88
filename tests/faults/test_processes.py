"""Processes of trials are killed with SIGKILL, one every five seconds for a minute."""

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.faults.searches import (
    TRIAL,
    WORKER,
    Checkpointed,
    Search,
    assert_counted_once,
    assert_whole,
    ray_processes,
    wait_for,
)

SEED, EVERY, MINUTE = 30, 5.0, 60.0
MINUTES = 3  # of the search: some after the last kill
CONTROLLER = "ray::TrainController"


@pytest.mark.slow
@pytest.mark.fault("process killed")
def test_a_killed_worker_goes_on_from_its_checkpoint(
    tmp_path: Path, repetitions: Callable[[int, str], None]
) -> None:
    search = Search(tmp_path)
    process = search.start()
    with Checkpointed(search) as seen:
        wait_for(lambda: search.epochs() >= 2 or process.poll() is not None, 200, "no epoch")
        random.Random(SEED).choice(ray_processes(psutil.Process(process.pid), TRIAL)).kill()
        assert process.wait(timeout=400) == 0, search.output
    assert_whole(search)
    assert not seen.again
    repetitions(1, "one worker killed once")


@pytest.mark.slow
@pytest.mark.fault("process killed")
@pytest.mark.parametrize(
    ("launcher", "titles"),
    [
        ("inline", [TRIAL]),
        ("train", [WORKER, TRIAL, CONTROLLER]),
        ("train", [WORKER]),  # Among all three it is seldom there: the others begin before it.
    ],
)
def test_processes_killed_for_a_minute_lose_nothing(
    launcher: str,
    titles: list[str],
    tmp_path: Path,
    repetitions: Callable[[int, str], None],
) -> None:
    search = Search(tmp_path, budget={"trials": None, "epochs": 10, "minutes": MINUTES})
    process = search.start("--launcher", launcher)
    with Checkpointed(search) as seen:
        wait_for(lambda: _completed(search) or process.poll() is not None, 300, "no trial")
        killed = _kill_for_a_minute(process, titles)
        assert process.wait(timeout=400) == 0, search.output
    assert_counted_once(search)
    assert not seen.again
    # Three losses without an epoch between them end a trial, and nothing else does.
    failed = [record.reason for record in search.trials() if record.state == "failed"]
    assert set(failed) <= {"process lost"}
    assert len(killed) >= 3 * len(failed)
    given_up = f", {len(failed)} trials given up" if failed else ""
    repetitions(len(killed), f"{launcher}: {_counted(killed)}{given_up}")


def _completed(search: Search) -> bool:
    return any(record.state == "completed" for record in search.trials())


def _kill_for_a_minute(process: subprocess.Popen[str], titles: list[str]) -> list[str]:
    """Kill one process every five seconds, each kind in turn where it is there; return whom."""
    chosen, began, killed = random.Random(SEED), time.monotonic(), list[str]()
    while process.poll() is None and time.monotonic() - began < MINUTE:
        turn = len(killed) % len(titles)
        for kind in (*titles[turn:], *titles[:turn]):
            victims = ray_processes(psutil.Process(process.pid), kind)
            if victims:
                chosen.choice(victims).kill()
                killed.append(kind)
                break
        time.sleep(EVERY)
    return killed


def _counted(killed: list[str]) -> str:
    kinds = {TRIAL: "trial", CONTROLLER: "controller", WORKER: "worker"}
    counts = ((killed.count(title), kind) for title, kind in kinds.items())
    return ", ".join(f"{count} x {kind}" for count, kind in counts if count)
