"""The network between two nodes is cut for a while, silently, and comes back."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.namespaces import Hosts, skip_where_impossible
from tests.faults.nodes import Cluster
from tests.faults.searches import Search, all_train, assert_counted_once, wait_for

# By default Ray gives a silent node up after 5 checks of 10 s, 3 s apart.
NODES = {"GLOO_SOCKET_IFNAME": "eth0", "RAY_health_check_failure_threshold": "10"}
GOES_ON = 120.0


@pytest.mark.slow
@pytest.mark.netns
@pytest.mark.fault("network cut")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("seconds", [10, 60])
def test_a_search_goes_on_after_a_cut(
    seconds: int, workers: int, tmp_path: Path, repetitions: Callable[[int, str], None]
) -> None:
    """Trials of one worker, of which one is cut off, or of two that are cut from each other."""
    skip_where_impossible()
    with Hosts(3) as hosts, Cluster(hosts.ip(0), hosts.within(0), NODES) as cluster:
        search = Search(
            tmp_path,
            within=hosts.within(0),
            fixed={"image_size": 96, "crop_size": 96},
            budget={"trials": 2, "epochs": 10_000, "first_rung": 1.0},
            resources={"workers_per_trial": workers},
        )
        for number in (1, 2):
            cluster.add(hosts.ip(number), hosts.within(number))
        process = search.start("--address", cluster.address, env=cluster.token)
        wait_for(lambda: search.epochs() >= 4 or process.poll() is not None, 200, "no epoch")
        hosts.cut(2)
        time.sleep(seconds)
        hosts.join(2)
        took = all_train(search, GOES_ON)
        search.interrupt(process)
    assert_counted_once(search)
    repetitions(1, f"{seconds} s, {workers} workers a trial: goes on after {took:.0f} s")
