"""A search's ensemble: its candidates are asked as Ray tasks, and what came of it is shown."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
import torch
from rich.console import Console
from rich.markup import escape

from raysearch import cluster
from raysearch.cluster import Slots
from raysearch.config import DataConfig
from raysearch.inference.models import ENSEMBLE as FILE
from raysearch.inference.probabilities import Candidate, Probabilities
from raysearch.inference.selection import Limits
from raysearch.inference.tta import Views
from raysearch.records.ensemble import ensemble_run
from raysearch.records.evaluation import cache_folder, data_root
from raysearch.records.files import write_json
from raysearch.records.registry import publish
from raysearch.records.run_folder import RunFolder
from raysearch.records.terminal import make_console
from raysearch.records.terminal.ensembled import show_ensemble
from raysearch.search.opening import cache_here
from raysearch.study import load_study
from raysearch.training.device import find_device

Ask = Callable[[Candidate], Probabilities]


def make_ensemble(
    run: RunFolder,
    console: Console,
    limits: Limits | None = None,
    test: bool = True,
    command: str | None = None,
    others: Sequence[RunFolder] = (),
    address: str | None = None,
    views: Views | None = None,
) -> dict[str, Any]:
    """Make a search's ensemble on a cluster, show it, tell MLflow; return what ensemble.json says.

    Args, Raises:
        see `raysearch.records.ensemble.ensemble_run` and `raysearch.cluster.join`.
    """
    stored = load_study(str(run.study_file)).resources.storage
    with make_console(stderr=True).status("asking candidates") as status:
        told = ensemble_run(
            run,
            limits,
            test,
            command,
            say=status.update,
            others=others,
            # Answers are files, which other nodes can only give where they share a folder.
            how=map if stored else partial(over_cluster, run=run, address=address),
            views=views,
        )
    show_ensemble(console, told)
    with make_console(stderr=True).status("telling MLflow"):
        said = publish(run)
    if said:
        write_json(run.path / FILE, told | {"registered": said})
        console.print(f"\n{escape(said)}", soft_wrap=True)
    return told


def over_cluster(
    ask: Ask, wanted: Iterable[Candidate], run: RunFolder, address: str | None = None
) -> Iterator[Probabilities]:
    """Map over candidates as Ray tasks, each with what one worker of a trial has; in any order."""
    study, info = load_study(str(run.study_file)), run.info
    with cluster.joined(address):
        slots = cluster.slots(study.resources)
        options = {"num_cpus": slots.cpus, "num_gpus": slots.gpus, "max_retries": 3}
        task = ray.remote(_answer).options(**options)
        place = (study.data, data_root(run, study), cache_folder(study), info["data_digest"])
        waiting = [task.remote(ask, candidate, slots, place) for candidate in wanted]
        while waiting:
            ready, waiting = ray.wait(waiting)
            try:
                yield ray.get(ready[0])
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error  # What went wrong, as if it had been asked here.


def _answer(
    ask: Callable[..., Probabilities],
    candidate: Candidate,
    slots: Slots,
    place: tuple[DataConfig, Path, Path, str],
) -> Probabilities:
    """Ask one candidate on this node, which decodes the data first where it has not yet."""
    cache_here(*place)
    torch.set_num_threads(slots.cpus)
    device = find_device() if slots.gpus else torch.device("cpu")
    return ask(candidate, device=device)
