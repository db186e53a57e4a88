"""The nodes of a cluster: those that are there, and those that its autoscaler may still start.

Ray tells nobody what its autoscaler may start, so this reads the configuration that the autoscaler
itself was given: the file of `ray start --autoscaling-config`, or KubeRay's RayCluster.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
import ray
import yaml
from ray._private.state import state
from ray.exceptions import GetTimeoutError

HEAD = "node:__internal_head__"  # A resource that only the head node has.
TYPE = "ray.io/node-group"  # A node's label that names its type, where an autoscaler started it.
PATIENCE_SECONDS = 60.0
POD = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Node:
    """What a node has of each resource, and its type in the autoscaler's configuration."""

    resources: Mapping[str, float]
    type: str = ""

    def has(self, kind: str) -> float:
        return self.resources.get(kind, 0.0)

    def like(self, other: "Node") -> bool:
        """Whether both are of one type, or have the same CPUs and GPUs where one is not known."""
        if self.type and other.type:
            return self.type == other.type
        return all(self.has(kind) == other.has(kind) for kind in ("CPU", "GPU"))


def living() -> list[Node]:
    """Return the nodes that take work: alive, and not about to be taken away."""
    return [Node(one["Resources"], one.get("Labels", {}).get(TYPE, "")) for one in taking_work()]


def taking_work() -> list[dict[str, Any]]:
    """Return these nodes as `ray.nodes` describes them."""
    draining = state.get_draining_nodes()
    return [one for one in ray.nodes() if one["Alive"] and one["NodeID"] not in draining]


def to_come(here: Sequence[Node]) -> list[Node]:
    """Return the nodes that the autoscaler may start beside those that are here."""
    return missing(_autoscaling(), here)


def missing(config: Mapping[str, Any], here: Sequence[Node]) -> list[Node]:
    """Return the workers that an autoscaler's configuration allows and that are not here.

    A type whose resources it leaves open, as it does for machines on premises, tells nothing.
    Types with most GPUs, then CPUs, come first, up to the cluster's own `max_workers`.
    """
    types = config.get("available_node_types", {})
    found: list[Node] = []
    for name, kind in types.items():
        node = Node(kind.get("resources") or {}, name)
        if name == config.get("head_node_type") or not (node.has("CPU") or node.has("GPU")):
            continue
        known = sum(other.like(node) and not other.has(HEAD) for other in here)
        found += [node] * max(0, kind.get("max_workers", 0) - known)
    found.sort(key=lambda node: (node.has("GPU"), node.has("CPU")), reverse=True)
    workers = sum(not node.has(HEAD) for node in here)
    return found[: max(0, config.get("max_workers", len(found) + workers) - workers)]


def told(nodes: Iterable[Node]) -> str:
    """Name CPUs and GPUs of nodes, such as "2 x (48 CPU, 4 GPU)"."""
    counts = Counter((node.has("CPU"), node.has("GPU")) for node in nodes)
    return " and ".join(f"{n} x ({cpus:g} CPU, {gpus:g} GPU)" for (cpus, gpus), n in counts.items())


def _autoscaling() -> Mapping[str, Any]:
    """The configuration of the cluster's autoscaler; empty where it has none."""
    context = ray.get_runtime_context()
    heads = [node for node in ray.nodes() if node["Alive"] and HEAD in node["Resources"]]
    if not heads:
        return {}
    # The control plane may be known here by another name than on its own machine.
    gcs = f"{heads[0]['NodeManagerAddress']}:{context.gcs_address.rsplit(':', 1)[1]}"
    if heads[0]["NodeID"] == context.get_node_id():
        return configuration(gcs)
    asked = ray.remote(num_cpus=0, resources={HEAD: 0.001})(configuration).remote(gcs)
    try:
        found: Mapping[str, Any] = ray.get(asked, timeout=PATIENCE_SECONDS)
    except GetTimeoutError:
        return {}
    return found


def configuration(gcs: str) -> dict[str, Any]:
    """Read, on the head node, the configuration of its autoscaler; empty where it has none.

    Args:
        gcs: address of the cluster's control plane, HOST:PORT.
    """
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        named = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
        if named.get("--gcs-address") == gcs and "--autoscaling-config" in named:
            path = Path(named["--autoscaling-config"]).expanduser()
            return dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    name = os.environ.get("RAY_CLUSTER_NAME")
    if name and (POD / "token").is_file():
        return _of_kubernetes(name)
    return {}


class Kubernetes(Protocol):
    """Kubernetes' API as Ray's own client has it."""

    def get(self, path: str) -> dict[str, Any]: ...


def _of_kubernetes(name: str) -> dict[str, Any]:
    import requests
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    namespace = (POD / "namespace").read_text(encoding="utf-8")
    try:
        return ray_cluster(KubernetesHttpApiClient(namespace), name)
    except requests.RequestException:  # Only an autoscaler's service account may ask.
        return {}


def ray_cluster(kubernetes: Kubernetes, name: str) -> dict[str, Any]:
    """Return a RayCluster as an autoscaler's configuration; empty where it does not scale."""
    from ray.autoscaler._private.kuberay import autoscaling_config

    found = kubernetes.get(f"rayclusters/{name}")
    if not found["spec"].get("enableInTreeAutoscaling"):
        return {}
    derived: dict[str, Any] = autoscaling_config._derive_autoscaling_config_from_ray_cr(found)
    return derived
