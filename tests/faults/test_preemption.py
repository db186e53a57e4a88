"""A machine is about to be taken away: five seconds to write a checkpoint."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.faults.nodes import Cluster
from tests.faults.searches import (
    TRIAL,
    WORKER,
    Checkpointed,
    Search,
    assert_whole,
    lives,
    ray_processes,
    wait_for,
)

GRACE = 5.0
INTO = 1.5  # Seconds from an epoch's line to its checkpoint and into the next epoch.
EPOCHS = 6
# Epochs of some seconds, so that the notice comes in the middle of one.
SLOW: dict[str, Any] = {
    "fixed": {"image_size": 256, "crop_size": 256, "batch_size": 2},
    "budget": {"trials": 2, "epochs": EPOCHS, "first_rung": 1.0},
}


@pytest.mark.slow
@pytest.mark.fault("preemption")
def test_trials_that_are_told_to_go_resume_in_the_middle_of_their_epoch(
    tmp_path: Path, repetitions: Callable[[int, str], None]
) -> None:
    _told_to_go("inline", TRIAL, tmp_path, repetitions)


@pytest.mark.slow
@pytest.mark.fault("preemption")
def test_workers_that_are_told_to_go_resume_in_the_middle_of_their_epoch(
    tmp_path: Path, repetitions: Callable[[int, str], None]
) -> None:
    _told_to_go("train", WORKER, tmp_path, repetitions)


def _told_to_go(
    launcher: str, title: str, folder: Path, repetitions: Callable[[int, str], None]
) -> None:
    search = Search(folder, **SLOW)
    process = search.start("--launcher", launcher)
    with Checkpointed(search) as seen:
        _begun(search, process)
        time.sleep(INTO)
        victims = ray_processes(psutil.Process(process.pid), title)
        told = time.time()
        for victim in victims:
            victim.terminate()
        took = _written(search, told, len(victims))
        _forget_older(search, told)
        time.sleep(max(0.0, GRACE - took))
        for victim in filter(lives, victims):
            victim.kill()
        assert process.wait(timeout=400) == 0, search.output
    assert_whole(search, trials=2, epochs=EPOCHS)
    assert not seen.again
    assert _failures(search) == []
    repetitions(len(victims), f"{launcher}: checkpoints written {took:.1f} s after SIGTERM")


@pytest.mark.slow
@pytest.mark.fault("preemption")
@pytest.mark.parametrize("launcher", ["train", "inline"])
def test_a_node_that_is_about_to_go_is_left_in_order(
    tmp_path: Path, repetitions: Callable[[int, str], None], launcher: str
) -> None:
    search = Search(tmp_path, **SLOW, resources={"max_concurrent_trials": 2})
    with Cluster() as cluster:
        node = cluster.add("127.0.0.2")
        cluster.add("127.0.0.3")
        process = search.start(
            "--launcher", launcher, "--address", cluster.address, env=cluster.token
        )
        with Checkpointed(search) as seen:
            _begun(search, process)
            cluster.add("127.0.0.4")
            told = time.time()
            cluster.drain("127.0.0.2", GRACE)
            noticed = time.time()
            _written(search, told, 1)
            took = time.time() - noticed
            time.sleep(max(0.0, GRACE - took))
            node.end()  # The machine goes; of a drained node Ray leaves `ray start` behind.
            assert process.wait(timeout=400) == 0, search.output
        found = cluster.look(trials=0)
    assert_whole(search, trials=2, epochs=EPOCHS)
    assert not seen.again
    assert _failures(search) == []
    assert not found["groups"]
    repetitions(1, f"{launcher}, node drained: a checkpoint within {took:.1f} s of the notice")


def _begun(search: Search, process: subprocess.Popen[str]) -> None:
    """Wait until both trials have trained an epoch."""

    def begun() -> bool:
        return process.poll() is not None or [r.epochs > 0 for r in search.trials()] == [True] * 2

    wait_for(begun, 300, search.output)
    assert process.poll() is None, search.output


def _after(search: Search, told: float) -> list[Path]:
    """The checkpoints, in the middle of an epoch or at its end, written after a moment."""
    assert search.found is not None
    found = search.found.path.glob("trials/*/last/epoch-*/meta.json")
    return [path.parent for path in found if path.stat().st_mtime >= told]


def _written(search: Search, told: float, count: int) -> float:
    """Wait until so many trials have written a checkpoint after a moment; return the seconds."""
    wait_for(lambda: len(_after(search, told)) >= count, GRACE, "no checkpoint in time")
    return time.time() - told


def _forget_older(search: Search, told: float) -> None:
    """Leave the trials nothing but these checkpoints to resume from."""
    for newest in _after(search, told):
        for path in newest.parent.glob("epoch-*"):
            if path != newest:
                shutil.rmtree(path)


def _failures(search: Search) -> list[str]:
    assert search.found is not None
    folders = search.found.trials_folder
    return [str(p) for name in ("error.txt", "failures.json") for p in folders.glob(f"*/{name}")]
