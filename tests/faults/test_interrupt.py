"""Ctrl-C, as a terminal sends it: to the driver and to everything that it has started."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raysearch.training.checkpoint import LAST, newest
from tests.faults.searches import Search, wait_for

Told = Callable[[int, str], None]
REPORTED = 1.0  # Seconds that an epoch which has ended takes to reach the search.
# An epoch takes a while, so that an interrupt falls into the middle of one.
SLOW = {"image_size": 128, "crop_size": 128, "batch_size": 1}

pytestmark = [pytest.mark.fault("interrupt"), pytest.mark.slow]


def training(search: Search, launcher: str) -> tuple[int, Callable[[], int | None]]:
    """Start a search in a group of its own; return it, and a poll, in the middle of an epoch."""
    process = search.start("--launcher", launcher)
    told = "no epochs"
    wait_for(lambda: search.epochs() >= 3 or process.poll() is not None, 300, told)
    time.sleep(0.3)
    assert process.poll() is None, search.output
    return process.pid, process.poll


def ended(search: Search, poll: Callable[[], int | None], seconds: float) -> float:
    return wait_for(lambda: poll() is not None, seconds, search.output)


@pytest.mark.parametrize("launcher", ["inline", "train"])
def test_once_finishes_the_epoch(tmp_path: Path, repetitions: Told, launcher: str) -> None:
    search = Search(tmp_path, within=["setsid"], fixed=SLOW, budget={"epochs": 200})
    pid, poll = training(search, launcher)
    interrupted = time.time()
    os.killpg(pid, signal.SIGINT)
    ended(search, poll, 240)
    assert poll() == 130, search.output
    assert "--resume" in search.output
    assert "Traceback" not in search.output
    assert search.found is not None
    running = [r for r in search.trials() if r.state == "running" and r.history]
    assert running
    for record in running:
        last = record.history[-1]
        assert last["time"] >= interrupted - REPORTED, f"trial {record.number} lost its epoch"
        assert last["began"] < interrupted, f"trial {record.number} began another"
        assert newest(search.found.trial_folder(record.number)) == (last["epoch"], 0)
    summary = search.found.summary()
    assert summary["trials"]["running"] == len(running)
    repetitions(len(running), f"{launcher}: the running trials finished their epoch")


def test_twice_ends_now(tmp_path: Path, repetitions: Told) -> None:
    large = {"image_size": 256, "crop_size": 256, "batch_size": 1}
    search = Search(tmp_path, within=["setsid"], fixed=large, budget={"trials": 2, "epochs": 200})
    pid, poll = training(search, "inline")
    interrupted = time.time()
    os.killpg(pid, signal.SIGINT)
    time.sleep(0.5)
    os.killpg(pid, signal.SIGINT)
    seconds = ended(search, poll, 60)
    assert poll() == 130, search.output
    assert "Traceback" not in search.output
    assert search.found is not None
    for record in search.trials():
        folder = search.found.trial_folder(record.number)
        assert record.state == "running"
        assert not any(m["began"] < interrupted + 0.5 < m["time"] for m in record.history)
        assert list((folder / LAST).glob("epoch-*"))
    repetitions(1, f"ended {seconds:.0f} s after the second Ctrl-C")
