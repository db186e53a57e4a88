"""Joining a Ray cluster, or starting Ray on this machine."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

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
