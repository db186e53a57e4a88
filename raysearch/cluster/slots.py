"""How many trials run at once on a cluster, and what each reserves.

All workers of a trial reserve the same, and they may lie on several nodes. So as many trials fit as
the workers that the nodes hold together suffice for, whichever node Ray places them on.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raysearch.cluster.nodes import Node, living, to_come, told
from raysearch.config import Resources
from raysearch.errors import ConfigError

GRAIN = 10_000  # Ray counts parts of a GPU in ten-thousandths.
LOOK_SECONDS = 10.0


@dataclass(frozen=True)
class Slots:
    """How many trials run at once, and what one worker of a trial reserves.

    Attributes:
        nodes: those that can hold workers, with those that may still come.
        coming: how many of them the autoscaler has yet to start.
    """

    trials: int
    workers: int
    cpus: int
    gpus: float
    nodes: int
    coming: int = 0

    @property
    def launcher(self) -> str:
        """Train (DDP) for several workers or nodes, inline for one worker on one node."""
        return "train" if self.workers > 1 or self.nodes > 1 else "inline"

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to say about the nodes before a search."""
        if not self.coming:
            return ()
        return (f"{self.coming} of {self.nodes} nodes are not there yet: Ray's autoscaler starts "
                "them when trials wait for them",)  # fmt: skip


def slots(resources: Resources) -> Slots:
    """Count the trials that fit on the cluster: on its nodes, and on those that may still come.

    Raises:
        ConfigError: not even one trial fits, or a worker wants one and a half GPUs.
    """
    here = living()
    return fitting(resources, here, to_come(here))


def has_gpus() -> bool:
    """Whether the joined cluster has a GPU, or its autoscaler may start a node that has."""
    here = living()
    return any(node.has("GPU") for node in (*here, *to_come(here)))


def fitting(resources: Resources, here: Sequence[Node], coming: Sequence[Node] = ()) -> Slots:
    """Count the trials that fit on nodes. Raises: see `slots`."""
    nodes = [*here, *coming]
    gpus = resources.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if any(node.has("GPU") for node in nodes) else 0.0
    _check_part(gpus)
    cpus = resources.cpus_per_worker or _cpus_for_a_gpu(nodes, gpus)
    held = [workers_on(node, cpus, gpus) for node in nodes]
    trials = sum(held) // resources.workers_per_trial
    if trials == 0:
        raise ConfigError(
            f"resources: a trial wants {resources.workers_per_trial} x ({cpus} CPU, {gpus:g} GPU), "
            f"and the cluster has {told(here) or 'no node'}"
            + (f", and may start {told(coming)}" if coming else "")
            + "; lower workers_per_trial, cpus_per_worker or gpus_per_worker, or wait for its nodes"
        )
    trials = min(trials, resources.max_concurrent_trials or trials)
    used, later = sum(map(bool, held)), sum(map(bool, held[len(here) :]))
    return Slots(trials, resources.workers_per_trial, cpus, gpus, used, later)


def _check_part(gpus: float) -> None:
    """Raise where Ray gives no such part of a GPU."""
    if gpus > 1 and not gpus.is_integer():
        raise ConfigError(
            f"resources.gpus_per_worker: {gpus:g} is neither a part of one GPU nor whole ones; "
            f"write {int(gpus)} or {int(gpus) + 1}"
        )
    if 0 < gpus < 1 / GRAIN:
        raise ConfigError(
            f"resources.gpus_per_worker: Ray gives no less than {1 / GRAIN:g} of a GPU, not "
            f"{gpus:g}; write more, or 0"
        )


def _cpus_for_a_gpu(nodes: Sequence[Node], gpus: float) -> int:
    """A GPU's share of its node's cores; one core where no GPU is used."""
    with_both = [node for node in nodes if gpus and node.has("GPU") and node.has("CPU")]
    shares = [node.has("CPU") * gpus / node.has("GPU") for node in with_both]
    return max(1, int(min(shares) + 1 / GRAIN)) if shares else 1


def workers_on(node: Node, cpus: int, gpus: float) -> int:
    """Count the workers that fit on a node; a part of a GPU never spans two of them."""
    by_cpu = int(node.has("CPU") // cpus)
    if not gpus:
        return by_cpu
    if gpus < 1:
        return min(by_cpu, int(node.has("GPU")) * (GRAIN // round(gpus * GRAIN)))
    return min(by_cpu, int(node.has("GPU") // gpus))


class Limit:
    """How many trials run at once, more than at the start as nodes join that were not foreseen.

    A trial whose node was lost waits until another comes: the limit never falls.

    Args:
        begun: what fitted at the start.
        most: of the study's resources; None where it does not say.
        here: returns the nodes that are there.
        every: seconds between two looks at them.
    """

    def __init__(
        self,
        begun: Slots,
        most: int | None = None,
        here: Callable[[], Sequence[Node]] = living,
        every: float = LOOK_SECONDS,
    ) -> None:
        self.begun, self.most, self.here, self.every = begun, most, here, every
        self.foreseen = max(begun.trials, self._fitting())
        self.now, self.looked = begun.trials, time.monotonic()

    def __call__(self) -> int:
        """Return the limit, counted anew every few seconds."""
        if self.most != self.now and time.monotonic() - self.looked >= self.every:
            self.looked = time.monotonic()
            joined = max(0, self._fitting() - self.foreseen)
            self.now = max(self.now, min(self.begun.trials + joined, self.most or sys.maxsize))
        return self.now

    def _fitting(self) -> int:
        begun = self.begun
        held = sum(workers_on(node, begun.cpus, begun.gpus) for node in self.here())
        return held // begun.workers
