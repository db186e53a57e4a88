"""Joining a Ray cluster, or starting Ray on this machine."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._common.utils import get_ray_address_file
from rich.markup import escape

from raysearch.cluster import authentication
from raysearch.cluster.notice import HOOK
from raysearch.cluster.slots import has_gpus
from raysearch.errors import ConfigError
from raysearch.limits import raise_open_files
from raysearch.records.terminal.text import make_console

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
    "RAY_ROTATION_MAX_BYTES": "67108864",  # Of each process's log, with two older ones beside it.
    "RAY_ROTATION_BACKUP_COUNT": "2",
}
LOCAL, AUTO = "local", "auto"
QUIET: dict[str, Any] = {
    "log_to_driver": False,
    "logging_level": logging.ERROR,
    "runtime_env": {"worker_process_setup_hook": HOOK, "env_vars": SETTINGS},
}


@contextmanager
def joined(address: str | None = None, dashboard: bool = False) -> Iterator[None]:
    """Be part of a cluster for a while; one that was joined before stays joined."""
    if ray.is_initialized():
        yield
        return
    with authentication.restored():
        join(address, dashboard)
        try:
            yield
        finally:
            ray.shutdown()


def join(address: str | None = None, dashboard: bool = False) -> None:
    """Join a running cluster, or start Ray on this machine for this process alone.

    Args:
        address: see `find_address`.
        dashboard: start Ray's API server on loopback too. Ray Train asks it which workers of a
            stopped trial still hold resources; without it they are given back late.

    Raises:
        ConfigError: no cluster answers at that address, or it does not let this user in.
    """
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    if ray.is_initialized():
        return
    raise_open_files()
    found = find_address(address)
    if found is None:
        authentication.use_private_token()
        ray.init(
            address=LOCAL, num_cpus=available_cpus(), include_dashboard=dashboard,
            dashboard_host="127.0.0.1", **QUIET,
        )  # fmt: skip
        return
    if found != (address or os.environ.get("RAY_ADDRESS")):
        _say(f"joining the Ray cluster at {found} (--address {LOCAL} starts one of its own)")
    warning = authentication.prepare_to_join(found)
    if warning:
        _say(f"[yellow]warning:[/] {escape(warning)}")
    try:
        ray.init(address=found, **QUIET)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"--address {found}: this Ray cluster cannot be joined ({error}); see to it with "
            "`ray status`, or use --address local"
        ) from error


def find_address(address: str | None = None) -> str | None:
    """Return HOST:PORT of the cluster to join, or None to start Ray on this machine.

    Args:
        address: of --address; left out, RAY_ADDRESS is taken, and then the cluster that this user
            has started on this machine with `ray start`. "local" asks for none of them.

    Raises:
        ConfigError: "auto" where no such cluster runs, or an address of another kind.
    """
    asked = address or os.environ.get("RAY_ADDRESS") or ""
    if asked == LOCAL:
        return None
    if asked not in ("", AUTO):
        if "://" in asked or ":" not in asked:
            raise ConfigError(
                f"--address {asked}: write HOST:PORT of the cluster's head (its port is 6379 where "
                "nothing else was said), on a machine of the cluster"
            )
        return asked
    found = own_cluster()
    if found is None and asked == AUTO:
        raise ConfigError(
            "--address auto: no Ray cluster of yours runs on this machine; start one with "
            "`ray start --head`, or leave --address and RAY_ADDRESS out"
        )
    return found


def own_cluster(note: Path | None = None) -> str | None:
    """Return the address of the cluster that `ray start` has made this machine part of.

    Ray for one process, as a search starts it, leaves no note and is never found. A cluster of
    another user is none of ours, and neither is one that has ended.

    Args:
        note: what `ray start` has written down; None takes the file that Ray reads.
    """
    note = note or Path(get_ray_address_file(None))
    try:
        mine = not note.is_symlink() and note.stat().st_uid == os.getuid()
        address = note.read_text(encoding="utf-8").strip() if mine else ""
    except OSError:
        return None
    return address if address and _runs_here(address) else None


def _runs_here(address: str) -> bool:
    """Whether a node of that cluster is a process of this user on this machine."""
    for process in psutil.process_iter(["name", "uids", "cmdline"]):
        told = process.info
        mine = told["uids"] and told["uids"].real == os.getuid()
        if told["name"] == "raylet" and mine and f"--gcs-address={address}" in told["cmdline"]:
            return True
    return False


def _say(text: str) -> None:
    make_console(stderr=True).print(text, soft_wrap=True)


def suited_profile(profiles: Sequence[str], address: str | None = None) -> str | None:
    """Return `full` where there is a GPU and `quick` elsewhere, if the study has it."""
    if find_address(address):
        join(address)
        gpus = has_gpus()
    else:
        import torch

        gpus = torch.cuda.is_available()
    suited = "full" if gpus else "quick"
    return suited if suited in profiles else None


def available_cpus() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
