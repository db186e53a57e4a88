"""Asking every node of the joined cluster the same."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysearch.cluster.nodes import taking_work
from raysearch.errors import RunError, first_line

PATIENCE_SECONDS = 90.0  # A node's first worker has to start, and most answers import torch.


@dataclass(frozen=True)
class Member:
    """A node as Ray knows it: its id, the address that others reach it at, and its resources."""

    id: str
    address: str
    resources: Mapping[str, float]


def members() -> dict[str, Member]:
    """Return the nodes that take work, by name: the address, with the id where it is shared."""
    here = [
        Member(node["NodeID"], node["NodeManagerAddress"], node["Resources"])
        for node in taking_work()
    ]
    shared = Counter(member.address for member in here)
    return {_name(member, shared[member.address] > 1): member for member in here}


def _name(member: Member, shared: bool) -> str:
    return f"{member.address} {member.id[:6]}" if shared else member.address


def on_every_node(
    function: Callable[..., Any], *arguments: Any, seconds: float = PATIENCE_SECONDS
) -> dict[str, Any]:
    """Run a function on every node, on all of them at once, whatever else they do.

    Args:
        function: of a module that the nodes have.
        seconds: what each node has for its answer.

    Returns:
        Each node's answer by its name (see `members`), or a RunError that says why there is none.
    """
    asked = {name: _ask(member.id, function, arguments) for name, member in members().items()}
    tasks = list(asked.values())
    ready, _ = ray.wait(tasks, num_returns=len(tasks), timeout=seconds)
    return {name: _answer(task, task in ready, seconds) for name, task in asked.items()}


def _ask(node: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> ray.ObjectRef:
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(function)
    return task.remote(*arguments)


def _answer(task: ray.ObjectRef, ready: bool, seconds: float) -> Any:
    if not ready:
        ray.cancel(task, force=True)
        return RunError(f"no answer within {seconds:.0f} s")
    try:
        return ray.get(task)
    except RayTaskError as error:
        return RunError(f"{type(error.cause).__name__}: {first_line(error.cause)}")
    except RayError as error:
        return RunError(f"{type(error).__name__}: {first_line(error)}")


def here() -> str:
    """Return the address of this process's own node."""
    return str(ray.util.get_node_ip_address())


def dashboard() -> str:
    """Return HOST:PORT of the cluster's dashboard; empty where it has none."""
    return str(ray._private.worker.get_dashboard_url() or "")
