"""All checks in their order: this machine, what a cluster would be made of, the cluster itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysearch.cluster.every_node import Member, dashboard, here, members, on_every_node
from raysearch.cluster.joining import find_address, joined
from raysearch.cluster.nodes import HEAD
from raysearch.diagnosis.authentication import check_dashboard, check_refusal, check_token
from raysearch.diagnosis.clock import judge_clock, offsets
from raysearch.diagnosis.cluster_file import check_file, started_from_here
from raysearch.diagnosis.disk import disk, judge_disk
from raysearch.diagnosis.hosts import hosts, judge_hosts
from raysearch.diagnosis.machine import (
    SETUP,
    VERSIONS,
    judge_gpus,
    judge_open_files,
    judge_versions,
    machine,
)
from raysearch.diagnosis.network import check_all_reduce, judge_network, network
from raysearch.diagnosis.result import HERE, Everywhere, Result, answered
from raysearch.diagnosis.storage import check_alone, check_shared, kept_as_it_was
from raysearch.diagnosis.tracking import check_tracking
from raysearch.errors import ConfigError


@dataclass(frozen=True)
class Asked:
    """What is to be looked at.

    Attributes:
        cluster_file: of a cluster that may not run yet.
        address: of a running one; None looks for it, see `raysearch.cluster.joining.find_address`.
        output: the folder of the searches.
        storage: URI that runs are stored at; empty where that is `output`.
        cache: the folder of decoded images on each node.
    """

    cluster_file: Path | None
    address: str | None
    output: Path
    storage: str
    cache: Path

    @property
    def folders(self) -> dict[str, str]:
        """What each folder is for."""
        return {str(self.cache): "the cache", str(self.output.absolute()): "runs"}


def examine(asked: Asked) -> list[Result]:
    """Look at this machine, at a cluster file, and at the cluster that runs.

    Raises:
        ConfigError: the cluster file cannot be read, or the address is none.
    """
    address = find_address(asked.address)
    file = asked.cluster_file
    results = check_file(file) if file else []
    results += check_token(needed=bool(address or (file and started_from_here(file))))
    own = machine()
    if address is None:
        return [*results, *this_machine(asked, own)]
    results += check_refusal(address)
    try:
        with joined(address):
            return [*results, *whole_cluster(asked, own, address, members(), on_every_node)]
    except ConfigError as error:
        return [*results, Result("joining", address, str(error), "failed", "as it says")]


def this_machine(asked: Asked, own: Mapping[str, Any]) -> list[Result]:
    """Look at the machine that this runs on, alone."""
    results = [Result(name, HERE, own[name]) for name in VERSIONS]
    results += [*judge_gpus(HERE, own), judge_open_files(HERE, own)]
    results += judge_disk(HERE, disk(asked.folders), asked.folders)
    if asked.storage:
        results.append(check_alone(asked.storage))
    return [*results, check_tracking(asked.output)]


def whole_cluster(
    asked: Asked,
    own: Mapping[str, Any],
    address: str,
    nodes: Mapping[str, Member],
    everywhere: Everywhere,
) -> list[Result]:
    """Look at every node of the joined cluster, and at what is between them.

    Args:
        own: what `machine` says of this process.
        address: of the cluster's control plane, HOST:PORT.
    """
    told, results = answered("node", everywhere(machine), SETUP)
    results += _hosts(address, nodes, everywhere)
    results += judge_versions(told, own)
    for node, one in told.items():
        results += judge_gpus(node, one, nodes[node].resources.get("GPU", 0))
    results += [judge_open_files(node, one) for node, one in told.items()]
    results += _disks(asked, everywhere)
    place = asked.storage or str(asked.output.absolute())
    with kept_as_it_was(asked.output.absolute()):
        results += check_shared(everywhere, place)
    results += [check_tracking(asked.output)]
    results += [judge_clock(node, *one, asked.storage) for node, one in offsets(everywhere).items()]
    results += _networks(nodes, everywhere)
    return [*results, *check_dashboard(dashboard())]


def _hosts(address: str, nodes: Mapping[str, Member], everywhere: Everywhere) -> list[Result]:
    head = next((member.address for member in nodes.values() if HEAD in member.resources), "")
    # The control plane may be known here by another name than on its own machine.
    told, _ = answered("hosts", everywhere(hosts, f"{head}:{address.rpartition(':')[2]}"), "")
    named = {name: at for one in told.values() for name, at in one.items()}
    return judge_hosts(named, {member.address for member in nodes.values()})


def _disks(asked: Asked, everywhere: Everywhere) -> list[Result]:
    told, results = answered("disk", everywhere(disk, list(asked.folders)), SETUP)
    return results + [r for node in told for r in judge_disk(node, told[node], asked.folders)]


def _networks(nodes: Mapping[str, Member], everywhere: Everywhere) -> list[Result]:
    told, results = answered("network", everywhere(network), SETUP)
    results += [judge_network(node, nodes[node].address, one) for node, one in told.items()]
    return results + (check_all_reduce(everywhere, here(), len(nodes)) if len(nodes) > 1 else [])
