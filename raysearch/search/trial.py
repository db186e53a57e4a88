"""One trial under Ray: `inline` in Tune's own worker, or `train` through Ray Train's TorchTrainer.

Both run the same training over the same folder. What a configuration does wrong (an exception, no
memory, a loss that is not finite) is caught, written down and reported as a failure; what happens
to a process or a node is left to Ray, which starts the trial again at its newest checkpoint.
"""

import gc
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ray.train
from ray import tune

from raysearch.cluster import Slots
from raysearch.config import Recipe, Study
from raysearch.data import Cache, Data, open_data
from raysearch.data.splits import read_splits
from raysearch.errors import DataError, TrialError
from raysearch.study import load_study

ERROR = "error.txt"


@dataclass(frozen=True)
class Context:
    """What all trials of a search share. Paths lead to storage that every node sees."""

    run: Path
    root: Path
    cache: Path
    digest: str
    study: Study
    slots: Slots
    launcher: str
    loader_workers: int

    def folder(self, config: dict[str, Any]) -> Path:
        return self.run / "trials" / f"{config['number']:04d}"


def trainable(context: Context) -> Callable[[dict[str, Any]], None]:
    """Return the Tune trainable of a search, with the resources that one trial reserves."""
    slots = context.slots
    if context.launcher == "inline":
        worker = tune.with_parameters(inline, context=context)
        return tune.with_resources(worker, {"cpu": slots.cpus, "gpu": slots.gpus})
    # The driver of a trial holds a pinch of the head node: no CPU, so that it never blocks a worker.
    driver = tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}])
    return tune.with_resources(tune.with_parameters(with_train, context=context), driver)


def inline(config: dict[str, Any], context: Context) -> None:
    """Train a one-worker trial in this process, which the next trial may use again."""
    try:
        _train(config, context, tune.report)
    except Exception as error:
        _note_failure(context.folder(config), error)
        tune.report({"failed": reason(error)})
    finally:
        gc.collect()


def with_train(config: dict[str, Any], context: Context) -> None:
    """Train a trial of one or more workers through Ray Train, reporting as it goes."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import WorkerGroupError
    from ray.tune.integration.ray_train import TuneReportCallback

    slots = context.slots
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"config": config, "context": context},
        torch_config=TorchConfig(backend="nccl" if slots.gpus >= 1 else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=slots.workers,
            use_gpu=slots.gpus > 0,
            resources_per_worker={"CPU": slots.cpus} | ({"GPU": slots.gpus} if slots.gpus else {}),
        ),
        run_config=RunConfig(
            name=f"train-{config['number']:04d}-{time.time_ns()}",
            storage_path=str(context.run / "ray"),
            callbacks=[TuneReportCallback()],
        ),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        own = [
            e for e in error.worker_failures.values() if not isinstance(e, ray.exceptions.RayError)
        ]
        if not own and not (context.folder(config) / ERROR).exists():
            raise
        tune.report({"failed": reason(own[0]) if own else "exception"})


def train_worker(job: dict[str, Any]) -> None:
    """Run on each worker of a trial: one rank of its DDP group."""
    ranks = ray.train.get_context()
    config, context = job["config"], job["context"]
    try:
        _train(config, context, ray.train.report, ranks.get_world_rank(), ranks.get_world_size())
    except Exception as error:
        _note_failure(context.folder(config), error)
        raise


def _train(
    config: dict[str, Any],
    context: Context,
    report: Callable[[dict[str, Any]], None],
    rank: int = 0,
    world: int = 1,
) -> None:
    from raysearch.training.loop import Machine, Training

    recipe, study = Recipe.model_validate(config["recipe"]), context.study
    threads = max(1, context.slots.cpus - context.loader_workers)
    Training(
        recipe,
        study.network_spec(recipe),
        study.what,
        _data(context.digest, context.run, context.root, context.cache),
        study.objective,
        context.folder(config),
        Machine(rank, world, threads, context.loader_workers),
    ).fit(report)


@cache
def _data(digest: str, run: Path, root: Path, cache_folder: Path) -> Data:
    """Open the data as the driver split it; a node that lacks the cache builds it first."""
    study, splits = load_study(str(run / "study.yaml")), read_splits(run / "splits.json")
    path = cache_folder / digest[:16]
    found = Cache(path) if path.is_dir() else open_data(study.data, root, cache_folder, 0).cache
    if found.digest != digest:
        raise DataError(
            f"{root}: the files here are not those that the search was started with "
            f"(digest {found.digest}, not {digest}); bring the same data to every node"
        )
    return Data(found, splits, len(study.data.classes))


def _note_failure(folder: Path, error: Exception) -> None:
    aside = folder / f".{ERROR}.{os.getpid()}"
    aside.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    aside.replace(folder / ERROR)


def reason(error: BaseException) -> str:
    """Name the kind of a failure: "not finite", "out of memory" or "exception"."""
    if isinstance(error, TrialError) and "not finite" in str(error):
        return "not finite"
    memory = isinstance(error, MemoryError) or "out of memory" in str(error).lower()
    return "out of memory" if memory else "exception"
