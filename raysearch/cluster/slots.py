"""How many trials run at once on a cluster, and what each reserves."""

from dataclasses import dataclass

import ray

from raysearch.config import Resources
from raysearch.errors import ConfigError


@dataclass(frozen=True)
class Slots:
    """How many trials run at once, and what one worker of a trial reserves."""

    trials: int
    workers: int
    cpus: int
    gpus: float
    nodes: int

    @property
    def launcher(self) -> str:
        """Train (DDP) for several workers or nodes, inline for one worker on one node."""
        return "train" if self.workers > 1 or self.nodes > 1 else "inline"


def slots(resources: Resources) -> Slots:
    """Count the trials that fit on the cluster's living nodes.

    Raises:
        ConfigError: not even one trial fits.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus_here = any(node.get("GPU", 0) for node in nodes)
    gpus = resources.gpus_per_worker
    gpus = (1.0 if gpus_here else 0.0) if gpus is None else gpus
    cpus = resources.cpus_per_worker or _cpus_for_a_gpu(nodes, gpus)
    fitting = [_workers_on(node, cpus, gpus) for node in nodes]
    trials = sum(fitting) // resources.workers_per_trial
    if trials == 0:
        raise ConfigError(
            f"resources: a trial wants {resources.workers_per_trial} x ({cpus} CPU, {gpus:g} GPU), "
            f"and the cluster has {sum(n.get('CPU', 0) for n in nodes):g} CPU and "
            f"{sum(n.get('GPU', 0) for n in nodes):g} GPU; lower workers_per_trial, "
            "cpus_per_worker or gpus_per_worker"
        )
    trials = min(trials, resources.max_concurrent_trials or trials)
    used = sum(1 for workers in fitting if workers)
    return Slots(trials, resources.workers_per_trial, cpus, gpus, used)


def _cpus_for_a_gpu(nodes: list[dict[str, float]], gpus: float) -> int:
    """A GPU's share of its node's cores; one core where no GPU is used."""
    shares = [n["CPU"] * gpus / n["GPU"] for n in nodes if gpus and n.get("GPU") and n.get("CPU")]
    return max(1, int(min(shares))) if shares else 1


def _workers_on(node: dict[str, float], cpus: int, gpus: float) -> int:
    by_cpu = int(node.get("CPU", 0) // cpus)
    return min(by_cpu, int(node.get("GPU", 0) / gpus)) if gpus else by_cpu
