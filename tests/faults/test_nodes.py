"""A node of the cluster is lost, or its head's control plane is."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.faults.nodes import Cluster
from tests.faults.searches import (
    Search,
    all_train,
    assert_counted_once,
    assert_whole,
    family,
    wait_for,
)

HALF = {"gpus_per_worker": 0.5}
MOVED, EPOCHS = 60.0, 20
BUDGET = {"trials": 3, "epochs": EPOCHS, "first_rung": 1.0}


@pytest.mark.slow
@pytest.mark.fault("node lost")
def test_trials_of_a_lost_node_move_to_another(
    tmp_path: Path, repetitions: Callable[[int, str], None]
) -> None:
    """To one with room at first; when none is left, to one that is added."""
    search = Search(
        tmp_path,
        fixed={"image_size": 96, "crop_size": 96},
        budget={"trials": 2, "epochs": 10_000, "first_rung": 1.0},
        resources={**HALF, "max_concurrent_trials": 2},
    )
    with Cluster() as cluster:
        nodes = [cluster.add(f"127.0.0.{number}", gpus=1) for number in (2, 3, 4)]
        process = search.start("--address", cluster.address, env=cluster.token)
        wait_for(lambda: len(search.trials()) == 2 or process.poll() is not None, 200, "no trial")
        all_train(search, 200)
        took = []
        for number, node in enumerate(nodes[:2]):
            node.lose()
            if number:
                cluster.add("127.0.0.5", gpus=1)
            took.append(all_train(search, MOVED))
        meanwhile = cluster.look(trials=2)
        search.interrupt(process)
        afterwards = cluster.look(trials=0)
    assert_counted_once(search)
    assert meanwhile == {
        "used": {"CPU": 2, "GPU": 1},
        "total": {"CPU": 2, "GPU": 2},
        "groups": ["CREATED", "CREATED"],
    }
    assert afterwards["used"] == {"CPU": 0, "GPU": 0}
    assert afterwards["groups"] == []
    told = " and ".join(f"{seconds:.0f} s" for seconds in took)
    repetitions(len(took), f"all trials trained again after {told}")


@pytest.mark.slow
@pytest.mark.fault("control plane lost")
def test_a_search_ends_with_the_control_plane_of_its_own_ray(
    tmp_path: Path, repetitions: Callable[[int, str], None]
) -> None:
    search = Search(tmp_path, budget=BUDGET)
    process = search.start()
    _begun(search, process)
    (found,) = [p for p in family(psutil.Process(process.pid)) if p.name() == "gcs_server"]
    took = _ended_without(found, search, process)
    best = search.best()
    search.run("--resume")
    assert search.best() >= best
    assert_whole(search, trials=3, epochs=EPOCHS)
    repetitions(1, f"this machine's: ended after {took:.0f} s")


@pytest.mark.slow
@pytest.mark.fault("control plane lost")
def test_a_search_ends_with_its_clusters_control_plane_and_resumes_on_another(
    tmp_path: Path, repetitions: Callable[[int, str], None]
) -> None:
    search = Search(tmp_path, budget=BUDGET)
    with Cluster() as cluster:
        cluster.add("127.0.0.2", cpus=2)
        process = search.start("--address", cluster.address, env=cluster.token)
        _begun(search, process)
        # `ray start --block` would take the rest of the head down, too.
        cluster.head.process.send_signal(signal.SIGSTOP)
        took = _ended_without(cluster.head.part("gcs_server"), search, process)
    best = search.best()
    with Cluster() as another:
        another.add("127.0.0.2", cpus=2)
        search.run("--resume", "--address", another.address, env=another.token)
    assert search.best() >= best
    assert_whole(search, trials=3, epochs=EPOCHS)
    repetitions(1, f"a cluster's: ended after {took:.0f} s, resumed on another")


def _begun(search: Search, process: subprocess.Popen[str]) -> None:
    wait_for(lambda: search.epochs() >= 2 or process.poll() is not None, 300, "no epoch")
    assert process.poll() is None, search.output


def _ended_without(
    control_plane: psutil.Process, search: Search, process: subprocess.Popen[str]
) -> float:
    """SIGKILL the control plane; the search ends with a message. Return how long it took."""
    control_plane.kill()
    began = time.monotonic()
    assert process.wait(timeout=120) not in (0, 2), search.output
    assert "control plane" in search.output
    assert "--resume" in search.output
    return time.monotonic() - began
