"""Slots: as many trials as fit on the nodes that there are and those that may come, no more."""

import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.tune.search import Searcher

from raysearch.cluster.nodes import HEAD, Node, configuration, missing, ray_cluster
from raysearch.cluster.slots import Limit, fitting
from raysearch.config import Resources
from raysearch.errors import ConfigError
from raysearch.search.growing import Growing


def node(cpus: float, gpus: float = 0, kind: str = "") -> Node:
    return Node({"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}, kind)


BARE_HEAD = Node({HEAD: 1.0, "memory": 1e9}, "head")


def trials(nodes: Sequence[Node], **resources: Any) -> int:
    return fitting(Resources(**resources), nodes).trials


@pytest.mark.parametrize(
    ("gpus", "on_one_gpu"),
    [(0.5, 2), (0.3, 3), (1 / 3, 3), (0.1, 10), (0.7, 1), (0.2, 5), (0.25, 4), (0.05, 20)],
)
def test_parts_of_a_gpu_are_packed_without_rounding_errors(gpus: float, on_one_gpu: int) -> None:
    nodes = [node(cpus=100, gpus=4), node(cpus=100, gpus=1)]
    assert trials(nodes, gpus_per_worker=gpus, cpus_per_worker=1) == 5 * on_one_gpu


@pytest.mark.parametrize(("workers", "fit"), [(1, 8), (2, 4), (3, 2), (4, 2), (5, 1), (8, 1)])
def test_trials_of_several_workers_may_lie_on_several_nodes(workers: int, fit: int) -> None:
    found = fitting(Resources(workers_per_trial=workers), [node(8, 4), node(8, 4)])
    assert (found.trials, found.nodes, found.launcher) == (fit, 2, "train")


def test_whole_gpus_of_one_worker_lie_on_one_node() -> None:
    assert trials([node(8, 3), node(8, 3)], gpus_per_worker=2) == 2


@pytest.mark.parametrize("gpus", [1.5, 2.25, 0.00001])
def test_parts_that_ray_does_not_give_are_refused(gpus: float) -> None:
    with pytest.raises(ConfigError, match=r"resources\.gpus_per_worker"):
        fitting(Resources(gpus_per_worker=gpus), [node(8, 8)])


def test_the_cores_are_the_limit_where_they_are_fewer() -> None:
    assert trials([node(6, 4)], cpus_per_worker=2) == 3
    assert fitting(Resources(), [node(48, 4)]).cpus == 12
    assert trials([node(2, 4)]) == 2


def test_nodes_may_differ() -> None:
    found = fitting(Resources(), [BARE_HEAD, node(64), node(48, 4), node(8, 8)])
    assert (found.trials, found.cpus, found.gpus, found.nodes) == (12, 1, 1.0, 2)


def test_a_head_without_cores_holds_no_trial() -> None:
    assert trials([BARE_HEAD, node(3)]) == 3
    assert fitting(Resources(), [BARE_HEAD, node(3)]).nodes == 1


def test_never_more_and_never_fewer_than_an_exhaustive_search_finds() -> None:
    for a, b, workers, gpus in product(range(1, 5), range(1, 5), range(1, 5), (1.0, 2.0)):
        nodes = [node(16, a), node(16, b)]
        places = [math.floor(n.has("GPU") / gpus) for n in nodes]
        most = max(n for n in range(9) if n * workers <= sum(places))
        asked = Resources(workers_per_trial=workers, gpus_per_worker=gpus, cpus_per_worker=1)
        if most:
            assert fitting(asked, nodes).trials == most
        else:
            with pytest.raises(ConfigError, match="a trial wants"):
                fitting(asked, nodes)


CONFIG: dict[str, Any] = {
    "head_node_type": "head",
    "max_workers": 4,
    "available_node_types": {
        "head": {"resources": {"CPU": 0, "GPU": 0}, "max_workers": 0},
        "gpu": {"resources": {"CPU": 48, "GPU": 4}, "max_workers": 3},
        "cpu": {"resources": {"CPU": 16}, "max_workers": 3},
    },
}


def test_a_head_alone_counts_what_the_autoscaler_may_start() -> None:
    coming = missing(CONFIG, [BARE_HEAD])
    assert [one.type for one in coming] == ["gpu", "gpu", "gpu", "cpu"]
    found = fitting(Resources(), [BARE_HEAD], coming)
    assert (found.trials, found.cpus, found.gpus, found.nodes, found.coming) == (12, 12, 1.0, 3, 3)
    assert "3 of 3 nodes are not there yet" in found.notes[0]


@pytest.mark.parametrize("label", ["gpu", ""])
def test_nodes_that_are_there_do_not_come_again(label: str) -> None:
    here = [BARE_HEAD, node(48, 4, label), node(48, 4, label)]
    assert [one.type for one in missing(CONFIG, here)] == ["gpu", "cpu"]


def test_the_cluster_has_a_limit_of_its_own() -> None:
    here = [BARE_HEAD, *[node(16, 0, "cpu")] * 3]
    assert [one.type for one in missing(CONFIG, here)] == ["gpu"]
    assert missing(CONFIG | {"max_workers": 3}, here) == []


def test_nodes_of_unknown_resources_tell_nothing() -> None:
    premises = {"local.cluster.node": {"resources": {}, "max_workers": 5}}
    config = {"head_node_type": "head", "available_node_types": premises, "max_workers": 5}
    assert missing(config, [BARE_HEAD]) == []
    assert missing({}, [BARE_HEAD]) == []


def test_what_is_refused_names_what_is_there_and_what_may_come() -> None:
    with pytest.raises(ConfigError, match=r"1 x \(4 CPU, 0 GPU\), and may start 1 x \(8 CPU, 2"):
        fitting(Resources(workers_per_trial=3, gpus_per_worker=1), [node(4)], [node(8, 2)])


def test_the_configuration_is_that_of_this_clusters_autoscaler(tmp_path: Path) -> None:
    path, gcs = tmp_path / "cluster.yaml", "192.0.2.1:6379"
    path.write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    waits = [sys.executable, "-c", "input()", f"--gcs-address={gcs}"]
    monitor = subprocess.Popen([*waits, f"--autoscaling-config={path}"], stdin=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while not configuration(gcs) and time.monotonic() < deadline:
            time.sleep(0.05)  # It takes a moment until the process has its own arguments.
        assert configuration(gcs) == CONFIG
        assert configuration("192.0.2.2:6379") == {}
    finally:
        monitor.communicate(b"\n")


class FakeKubernetes:
    """One RayCluster, as Kubernetes' API returns it."""

    def __init__(self, autoscaling: bool) -> None:
        limits = {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "2"}
        container = {"name": "ray", "resources": {"limits": limits, "requests": limits}}
        group = {
            "groupName": "gpu", "replicas": 0, "minReplicas": 0, "maxReplicas": 3,
            "rayStartParams": {}, "template": {"spec": {"containers": [container]}},
        }  # fmt: skip
        head = {"rayStartParams": {"num-cpus": "0"}, "template": group["template"]}
        spec = {"headGroupSpec": head, "workerGroupSpecs": [group]}
        spec |= {"enableInTreeAutoscaling": True} if autoscaling else {}
        self.found = {"metadata": {"name": "search", "namespace": "ml"}, "spec": spec}

    def get(self, path: str) -> dict[str, Any]:
        assert path == "rayclusters/search"
        return self.found


def test_workers_of_kubernetes_count_where_they_scale() -> None:
    coming = missing(ray_cluster(FakeKubernetes(autoscaling=True), "search"), [BARE_HEAD])
    assert [(one.has("CPU"), one.has("GPU")) for one in coming] == [(8, 2)] * 3
    assert ray_cluster(FakeKubernetes(autoscaling=False), "search") == {}


class Nodes:
    """A cluster whose nodes come and go."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = list(nodes)

    def __call__(self) -> list[Node]:
        return self.nodes


def test_the_limit_grows_with_the_cluster_and_never_falls() -> None:
    here = Nodes(node(8, 4))
    limit = Limit(fitting(Resources(), here()), here=here, every=0)
    assert limit() == 4
    here.nodes.append(node(8, 4))
    assert limit() == 8
    here.nodes = [node(8)]  # GPUs are lost: their trials wait, and no trial takes cores instead.
    assert limit() == 8


def test_nodes_that_were_foreseen_do_not_raise_the_limit() -> None:
    here = Nodes(BARE_HEAD)
    begun = fitting(Resources(), here(), missing(CONFIG, here()))
    limit = Limit(begun, here=here, every=0)
    here.nodes += [node(48, 4, "gpu")] * 3
    assert limit() == 12
    here.nodes.append(node(48, 4))  # By hand.
    assert limit() == 16


def test_the_studys_own_limit_stands() -> None:
    here = Nodes(node(8, 4))
    begun = fitting(Resources(max_concurrent_trials=6), here())
    limit = Limit(begun, most=6, here=here, every=0)
    here.nodes += [node(8, 4)] * 2
    assert limit() == 6


def test_fewer_trials_than_fit_stay_fewer() -> None:
    here = Nodes(node(8, 4))
    limit = Limit(replace(fitting(Resources(), here()), trials=1), here=here, every=0)
    assert limit() == 1
    here.nodes.append(node(2, 1))
    assert limit() == 2


class Endless(Searcher):
    """Suggests one trial after another."""

    def suggest(self, trial_id: str) -> dict[str, Any]:
        return {}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Nothing."""


def test_tune_is_given_more_trials_as_the_limit_grows() -> None:
    limits = iter([2, 2, 2, 2, 3, 3])
    searcher = Growing(Endless(), lambda: next(limits))
    assert [searcher.suggest(name) for name in "abc"] == [{}, {}, None]
    assert [searcher.suggest(name) for name in "cd"] == [{}, None]
