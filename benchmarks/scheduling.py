"""How trials fill the GPUs of a cluster: never more at once than fit, nor fewer, none starved.

    python -m benchmarks.scheduling

Two nodes with four GPUs each, which need not exist: Ray counts them all the same. Toy trials of
half a GPU and of one, of two and four workers with a GPU each, and of eight over both nodes, run
through the search, with ASHA. Utilisation is the share of the slots' time that trials spent in
their epochs, from the moment that all slots ran to the moment that the last trial was handed out.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from rich.table import Table

from benchmarks import toy
from raysearch import cluster
from raysearch.config import Resources
from raysearch.records.run_folder import RunFolder
from raysearch.records.terminal import make_console
from raysearch.search.context import Context
from raysearch.search.retention import Retention
from raysearch.search.run import search
from raysearch.study import to_yaml

NODES, GPUS_A_NODE, CPUS_A_NODE = 2, 4, 8
CASES = ((1, 0.5), (1, 1.0), (2, 1.0), (4, 1.0), (8, 1.0))


@dataclass(frozen=True)
class Outcome:
    """What a search of toy trials came to.

    Attributes:
        fit: trials that fit at once, by the GPUs alone.
        slots: trials that run at once, by the search.
        most: trials that ran at once where most did; every first wave ran whole.
        utilisation: of the slots while there were trials to hand out.
        longest_wait: seconds from handing a trial out to its beginning, where a slot had been free.
        overhead: seconds of a slot that a trial takes beside its epochs, after the first wave.
    """

    workers: int
    gpus: float
    launcher: str
    fit: int
    slots: int
    most: int
    trials: int
    utilisation: float
    longest_wait: float
    first_wait: float
    overhead: float


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder, fake_cluster(folder):
        found = [measured(w, g, arguments) for w, g in arguments.cases]
    show(found)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in found]), encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--waves", type=int, default=4, help="trials for each slot (default: 4)")
    parser.add_argument("--epochs", type=int, default=3, help="of a trial (default: 3)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of an epoch (default: 1)")
    parser.add_argument("--cases", type=_case, nargs="+", default=CASES, metavar="WORKERS,GPUS",
                        help="what a trial reserves (default: all)")  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    return parser.parse_args()


def _case(text: str) -> tuple[int, float]:
    workers, gpus = text.split(",")
    return int(workers), float(gpus)


@contextmanager
def fake_cluster(folder: str) -> Iterator[None]:
    """Start two nodes with GPUs that are only counted, and join them.

    Args:
        folder: where Ray notes the cluster, which nothing else shall find.
    """
    nodes = Cluster()
    nodes.add_node(num_cpus=CPUS_A_NODE, num_gpus=GPUS_A_NODE, temp_dir=folder)
    for _ in range(NODES - 1):
        nodes.add_node(num_cpus=CPUS_A_NODE, num_gpus=GPUS_A_NODE)
    toy.join(nodes.address)
    try:
        yield
    finally:
        ray.shutdown()
        nodes.shutdown()


def measured(workers: int, gpus: float, arguments: argparse.Namespace) -> Outcome:
    """Run one search whose trials reserve so many workers with so many GPUs each."""
    resources = Resources(workers_per_trial=workers, gpus_per_worker=gpus, cpus_per_worker=1)
    slots = cluster.slots(resources)
    launcher = "train" if workers > 1 else "inline"
    fit = int(NODES * GPUS_A_NODE / gpus) // workers
    study = toy.toy_study(fit * arguments.waves, arguments.epochs, resources)
    stays, retention = toy.Stays(), Retention()
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(folder, study.name)
        run.write("study.yaml", to_yaml(study))
        one = toy.Toy(run.trials_folder, slots, arguments.epochs, arguments.seconds, fit)
        made = toy.train if launcher == "train" else toy.inline
        context = Context(run.path, run.path, run.path, run.path, "", study, slots, launcher, 0)
        search(run, study, context, 0, None, [stays, retention], lambda _: made(one))
        retention.close()
        found = stays.of(run)
        epochs = sum(record.epochs for record in run.trials()[fit:])
    figures = _figures(found, fit, epochs * arguments.seconds)
    return Outcome(workers, gpus, launcher, fit, slots.trials, **figures)


def _figures(stays: Sequence[toy.Stay], fit: int, busy: float) -> dict[str, Any]:
    """Figures of trials in the order of their handing out; the first wave is told apart."""
    began = max(stay.began for stay in stays[:fit])
    last = max(stay.handed for stay in stays)
    inside = [max(0.0, min(s.left, last) - max(s.began, began)) for s in stays]
    later = stays[fit:]
    return {
        "most": toy.most_at_once([(stay.began, stay.left) for stay in stays]),
        "trials": len(stays),
        "utilisation": sum(inside) / (fit * (last - began)) if last > began else 1.0,
        "longest_wait": max((stay.began - stay.handed for stay in later), default=0.0),
        "first_wait": max(stay.began - stay.handed for stay in stays[:fit]),
        "overhead": (sum(s.ended - s.handed for s in later) - busy) / max(1, len(later)),
    }


def show(found: Sequence[Outcome]) -> None:
    table = Table(title=f"toy trials on {NODES} x {GPUS_A_NODE} GPUs")
    for title in ("workers x GPU", "launcher", "fit", "most at once", "trials", "utilisation",
                  "first wave s", "longest wait s", "overhead a trial s"):  # fmt: skip
        table.add_column(title, justify="right")
    for one in found:
        table.add_row(
            f"{one.workers} x {one.gpus:g}", one.launcher, str(one.fit), str(one.most),
            str(one.trials), f"{one.utilisation:.0%}", f"{one.first_wait:.1f}",
            f"{one.longest_wait:.2f}", f"{one.overhead:.2f}",
        )  # fmt: skip
    make_console().print(table)
    exact = all(one.most == one.slots == one.fit for one in found)
    print(f"never more and never fewer at once than fit: {'yes' if exact else 'NO'}")


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.0f} s in all")
