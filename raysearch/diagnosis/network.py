"""The network interface that workers of one trial talk over, and whether they can."""

import os
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import psutil

from raysearch.diagnosis.result import Everywhere, Result, answered

GLOO, NCCL = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"
PATIENCE_SECONDS = 60.0
REPAIR = (
    f"set {GLOO} (and {NCCL}) of every node's `ray start` to the interface of the other nodes' "
    "network, and let them reach each other on all ports"
)


def network() -> dict[str, Any]:
    """Return this machine's addresses by interface, and what gloo and NCCL are told to take."""
    known = psutil.net_if_addrs()
    addresses = {name: [one.address for one in nets] for name, nets in known.items()}
    return {"interfaces": addresses, GLOO: os.environ.get(GLOO), NCCL: os.environ.get(NCCL)}


def judge_network(node: str, address: str, told: Mapping[str, Any]) -> Result:
    """Judge the interfaces of a node that others reach at an address."""
    interfaces = told["interfaces"]
    carrier = next((name for name, known in interfaces.items() if address in known), "")
    for variable in (GLOO, NCCL):
        named = told[variable]
        if not named or (variable == NCCL and named.startswith("^")):
            continue
        chosen = [name for name in interfaces if _names(named, name, exact=variable == GLOO)]
        if not chosen:
            text = f"{variable}={named} is no interface of it ({', '.join(interfaces)})"
            return Result("network", node, text, "failed", REPAIR)
        if carrier not in chosen:
            text = f"{variable}={named}, and {address} is on {carrier or 'none'}"
            return Result("network", node, text, "warning", REPAIR)
    by = ", ".join(name for name in (GLOO, NCCL) if told[name]) or "chosen by host name"
    return Result("network", node, f"{carrier or address} ({by})")


def _names(named: str, interface: str, exact: bool) -> bool:
    """Whether a variable's list names an interface; NCCL takes beginnings of names too."""
    if exact or named.startswith("="):
        return interface in named.removeprefix("=").split(",")
    return any(interface.startswith(one) for one in named.split(","))


def all_reduce(host: str, port: int, nodes: int, seconds: float) -> float:
    """Add one number of each node up over gloo, as gradients are; return the sum.

    Args:
        host, port: of a torch TCPStore that counts the nodes.
    """
    import torch
    import torch.distributed as dist

    patience = timedelta(seconds=seconds)
    store = dist.TCPStore(host, port, is_master=False, timeout=patience)
    rank = store.add("ranks", 1) - 1
    dist.init_process_group("gloo", store=store, rank=rank, world_size=nodes, timeout=patience)
    try:
        value = torch.tensor([rank + 1.0])
        dist.all_reduce(value)
        return float(value)
    finally:
        dist.destroy_process_group()


def check_all_reduce(
    everywhere: Everywhere, host: str, nodes: int, seconds: float = PATIENCE_SECONDS
) -> list[Result]:
    """Let all nodes add their ranks up.

    Args:
        host: this machine's address in the cluster.
    """
    import torch.distributed as dist

    store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)
    begun = time.monotonic()
    answers = everywhere(all_reduce, host, store.port, nodes, seconds)
    took = time.monotonic() - begun
    sums, failures = answered("all-reduce", answers, REPAIR)
    expected = nodes * (nodes + 1) / 2
    wrong = [
        Result("all-reduce", node, f"{told:g} instead of {expected:g}", "failed", REPAIR)
        for node, told in sums.items()
        if told != expected
    ]
    text = f"{nodes} nodes over gloo, {took:.1f} s"
    return [*failures, *wrong] or [Result("all-reduce", "all", text)]
