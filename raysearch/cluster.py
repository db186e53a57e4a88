"""The door to Ray for everything outside search/: joining a cluster and seeing what it has."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from raysearch.config import Resources
from raysearch.errors import ConfigError

# Before Ray is first used: no pictures of its own, quick reports, and our own Ctrl-C.
SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


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


@contextmanager
def joined(address: str | None = None, dashboard: bool = False) -> Iterator[None]:
    """Be part of a cluster for a while; one that was joined before stays joined."""
    before = ray.is_initialized()
    join(address, dashboard)
    try:
        yield
    finally:
        if not before:
            ray.shutdown()


def join(address: str | None = None, dashboard: bool = False) -> None:
    """Join the cluster at address or RAY_ADDRESS, or start Ray on this machine.

    Args:
        dashboard: start Ray's API server on loopback too. Ray Train asks it which workers of a
            stopped trial still hold resources; without it they are given back late.

    Raises:
        ConfigError: no cluster answers at that address.
    """
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    if ray.is_initialized():
        return
    address = address or os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not address:
        ray.init(num_cpus=available_cpus(), include_dashboard=dashboard, **quiet)
        return
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"--address {address}: no Ray cluster answers there ({error}). Start one with "
            "`ray up cluster.yaml`, or leave --address and RAY_ADDRESS out to use this machine"
        ) from error


def suited_profile(profiles: Sequence[str], address: str | None = None) -> str | None:
    """Return `full` where there is a GPU and `quick` elsewhere, if the study has it."""
    if address or os.environ.get("RAY_ADDRESS"):
        join(address)
        gpus = has_gpus()
    else:
        import torch

        gpus = torch.cuda.is_available()
    suited = "full" if gpus else "quick"
    return suited if suited in profiles else None


def has_gpus() -> bool:
    """Whether any node of the joined cluster has a GPU."""
    return bool(ray.cluster_resources().get("GPU", 0))


def available_cpus() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
