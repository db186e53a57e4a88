"""Whether the machines that a cluster is to have, by its head's configuration, have joined it."""

import socket
from collections.abc import Collection, Mapping

from raysearch.cluster.nodes import configuration
from raysearch.diagnosis.result import Result

REPAIR = (
    "wait some minutes where `ray up` has just ended, for the head starts the others; "
    "`ray monitor` with your cluster file shows what it meets"
)


def hosts(gcs: str) -> dict[str, str]:
    """Return the addresses of `worker_ips`, by the name given there; none but on the head.

    Args:
        gcs: see `raysearch.cluster.nodes.configuration`.
    """
    provider = configuration(gcs).get("provider") or {}
    return {name: _address(name) for name in provider.get("worker_ips") or ()}


def _address(name: str) -> str:
    try:
        return socket.gethostbyname(name)
    except OSError:
        return name


def judge_hosts(named: Mapping[str, str], joined: Collection[str]) -> list[Result]:
    """Judge the machines of `hosts` by the addresses that have joined; nothing where none is named.

    A machine may reach the others at another address than SSH reaches it, so this only warns.
    """
    missing = [name for name, address in named.items() if address not in joined]
    if missing or not named:
        return [Result("hosts", one, "has not joined", "warning", REPAIR) for one in missing]
    return [Result("hosts", "all", f"worker_ips: all {len(named)} have joined")]
