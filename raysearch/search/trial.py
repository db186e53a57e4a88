"""One trial under Ray: `inline` in Tune's own worker, or `train` through Ray Train's TorchTrainer.

Both run the same training over the same folder. What a configuration does wrong (an exception, no
memory, a loss that is not finite) is caught, written down and reported as a failure; what happens
to a process or a node is an error here, and the search hands the trial out again.
"""

import gc
import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import ray.exceptions
import ray.train
import torch
import torch.distributed as dist
from filelock import FileLock
from ray import tune

from raysearch.cluster import notice
from raysearch.config import Recipe
from raysearch.models.weights import fetch
from raysearch.records.run_folder import ERROR
from raysearch.search import failures, leaving
from raysearch.search.at_hand import at_hand, send_failure
from raysearch.search.context import Context
from raysearch.search.memory import killed_for_memory, one_try
from raysearch.search.opening import open_here
from raysearch.search.ready import NotReady, preparing
from raysearch.search.schedule import rungs
from raysearch.training.device import find_device
from raysearch.training.fitting import halve
from raysearch.training.memory import Limits, is_oom, limit_process
from raysearch.training.unfinished import Preempted
from raysearch.training.usage import usage_on

# Tune gives a stopped trial 2 s to leave its thread. Where it takes longer (a busy machine, a slow
# disk, storage that is away), the process is not used again, and the trial that waits for it fails.
os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "1800")


class Halved(Exception):
    """The memory of a GPU was exhausted; the trial goes on with smaller parts of its batch."""


def trainable(context: Context) -> Callable[[dict[str, Any]], None]:
    """Return the Tune trainable of a search, with the resources that one trial reserves."""
    slots = context.slots
    if context.launcher == "inline":
        worker = tune.with_parameters(inline, context=context)
        return tune.with_resources(worker, {"cpu": slots.cpus, "gpu": slots.gpus})
    # A trial's driver holds a pinch of the head node and no CPU, so that it blocks no worker.
    driver = tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}])
    return tune.with_resources(tune.with_parameters(with_train, context=context), driver)


def inline(config: dict[str, Any], context: Context) -> None:
    """Train a one-worker trial in this process, which the next trial may use again."""
    if context.slots.gpus and torch.cuda.is_available():
        torch.cuda.synchronize()  # A GPU that the trial before broke ends this process, not trials.
    folder = context.folder(config)
    while True:
        try:
            _train(config, context, tune.report)
        except Preempted:
            if not leaving.asked(context.run):
                raise  # The process ends, and the trial is handed out again.
            tune.report({"left": True})
        except NotReady:
            raise
        except Halved:
            continue
        except Exception as error:
            if failures.disk_full(error):
                tune.report({"full": str(error)})
                return
            failures.note(folder, error)
            if failures.once_more(folder):
                continue
            send_failure(context.storage, folder, ERROR)
            tune.report({"failed": failures.reason(folder)})
        finally:
            gc.collect()
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
        return


def with_train(config: dict[str, Any], context: Context) -> None:
    """Train a trial of one or more workers through Ray Train, reporting as it goes."""
    from ray.train.v2.api.exceptions import WorkerGroupError

    folder = context.folder(config)
    while True:
        (folder / ERROR).unlink(missing_ok=True)
        try:
            _trainer(config, context).fit()
            _wait_until_told()
        except WorkerGroupError as error:
            _wait_until_told()
            # The workers' own exceptions. Their files may lie on other nodes.
            found = list(error.worker_failures.values())
            if any(isinstance(one, Preempted) for one in found):
                if not leaving.asked(context.run):
                    continue
                tune.report({"left": True})
            elif any(isinstance(one, Halved) for one in found):
                continue
            elif lost := lost_process(found):
                raise lost from error  # A process was lost, and with it perhaps its peers.
            elif full := [one for one in found if failures.disk_full(one)]:
                tune.report({"full": str(full[0]).strip().splitlines()[-1]})
            else:
                if not (folder / ERROR).exists():
                    own = "".join(traceback.format_exception(found[0]))
                    failures.write(folder, f"{error}\n{own}")
                if failures.once_more(folder):
                    continue
                tune.report({"failed": failures.reason(folder)})
        return


def _wait_until_told() -> None:
    """Wait until Tune has taken the workers' last report.

    Its thread hands that to itself, and would wait for ever behind a report of this one.
    """
    from ray.train._internal.session import get_session

    session = get_session()
    waiting = session and session._inter_actor_queue
    while waiting and not waiting.empty():
        time.sleep(0.1)
    time.sleep(0.2)


def lost_process(failures: Iterable[Exception]) -> Exception | None:
    """Return the loss of a process, or what its node lacks, among what ended workers; None where
    they all raised it."""
    from ray.train.v2._internal.exceptions import (
        WorkerHealthCheckFailedError,
        WorkerHealthCheckTimeoutError,
    )

    unasked = (
        ray.exceptions.RayError, WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError,
    )  # fmt: skip
    lost = [one for one in failures if isinstance(one, (*unasked, NotReady))]
    for one in lost:
        if isinstance(one, NotReady):
            return one
        reason = getattr(one, "health_check_failure", one)
        if isinstance(reason, ray.exceptions.OutOfMemoryError):
            return killed_for_memory(reason)
    return RuntimeError(str(lost[0])) if lost else None


def _trainer(config: dict[str, Any], context: Context) -> Any:
    """One run of a trial's process group, from its newest checkpoint on."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    slots = context.slots
    return TorchTrainer(
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


def train_worker(job: dict[str, Any]) -> None:
    """Run on each worker of a trial: one rank of its DDP group."""
    ranks = ray.train.get_context()
    config, context = job["config"], job["context"]
    rank, world = ranks.get_world_rank(), ranks.get_world_size()
    folder = context.folder(config)
    try:
        _train(config, context, ray.train.report, rank, world)
    except (Preempted, NotReady, Halved):
        raise
    except Exception as error:
        if rank == 0 or not (folder / ERROR).exists():
            failures.note(folder, error)
        raise


@contextmanager
def _leaving_together(world: int) -> Iterator[None]:
    """Ranks that must go wait for each other: the first to leave ends all, and rank 0 writes."""
    try:
        yield
    except Preempted:
        if world > 1:
            with suppress(RuntimeError):  # One that is gone already is waited for no longer.
                dist.barrier()
        raise


def _train(
    config: dict[str, Any],
    context: Context,
    report: Callable[[dict[str, Any]], None],
    rank: int = 0,
    world: int = 1,
) -> None:
    from raysearch.training.loop import Training
    from raysearch.training.machine import Machine, Sources

    unreserved = not context.slots.gpus and torch.cuda.is_available()
    device = torch.device("cpu") if unreserved else find_device()
    gpus = context.slots.gpus
    limit_process(device, gpus)
    memory = context.run.parents[1] / "memory"
    limits = Limits.of(memory, device, gpus) if device.type == "cuda" else None
    recipe, study = Recipe.model_validate(config["recipe"]), context.study
    threads = max(1, context.slots.cpus - context.loader_workers)
    # A process that lost its driver may live on for a moment: one trains a trial at a time.
    alone = FileLock(context.folder(config) / ".lock") if rank == 0 else nullcontext()
    tried = one_try(context.folder(config)) if rank == 0 else nullcontext()
    mine = (context.storage, context.run, context.folder(config), rank, rungs(study))
    with (
        alone,
        tried,
        notice.at_work(),
        leaving.watched(context.run) as told_to_go,
        _leaving_together(world),
        at_hand(*mine) as uploading,
        usage_on(device, gpus, world) as usage,
    ):
        with preparing(context.run, context.storage is not None):
            spec, data = fetch(study.network_spec(recipe), context.weights), open_here(context)
        training = Training(
            recipe,
            spec,
            study.what,
            data,
            study.objective,
            context.folder(config),
            Machine(
                rank=rank,
                world=world,
                threads=threads,
                loader_workers=context.loader_workers,
                device=device,
                must_go=lambda: notice.must_go() or told_to_go(),
                limits=limits,
                usage=usage,
            ),
            Sources(study.init_from.get(recipe.architecture), tuple(study.teachers)),
        )
        try:
            training.fit(uploading(notice.outside_work(report)))
        except RuntimeError as error:
            if is_oom(error) and halve(training, limits):
                raise Halved(str(error)) from error
            raise
