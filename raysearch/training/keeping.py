"""What a trial keeps of its training on the disk, and how it goes on from there."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from raysearch.training import checkpoint
from raysearch.training.checkpoint import BEST, EVERY, LAST, Checkpoint
from raysearch.training.history import add_epoch, append_epoch, forget_after
from raysearch.training.trained import description
from raysearch.training.unfinished import Unfinished

if TYPE_CHECKING:
    from raysearch.training.loop import Training

MOST_STEPS = 10**9  # More than any epoch has.


def keep_epoch(training: "Training", metrics: dict[str, Any], confusion: Tensor | None) -> None:
    """Write an epoch's line, then its checkpoints: one that is then repeated replaces its line.

    Args:
        confusion: of an epoch that is the best so far, else None.
    """
    folder = training.folder
    append_epoch(folder, metrics)
    epoch, every = metrics["epoch"], training.recipe.save_every
    weights = (training.ema.module if training.ema else training.network).state_dict()
    model = _description(training)
    if confusion is not None:
        checkpoint.save(folder / BEST, epoch, weights, metrics=metrics, model=model, keep=1)
        training.probe.save(folder)
        _save_array(folder / "confusion.npy", confusion)
    if every and epoch % every == 0:
        checkpoint.save(folder / EVERY, epoch, weights, metrics=metrics, model=model, keep=None)
    weights, state = training.network.state_dict(), _state(training)
    checkpoint.save(folder / LAST, epoch, weights, state, metrics, model)


def keep_unfinished(training: "Training", unfinished: Unfinished) -> None:
    """Write a checkpoint in the middle of an epoch."""
    weights, model = training.network.state_dict(), _description(training)
    state = _state(training) | {"unfinished": unfinished.to_state()}
    told = training.told | training.machine.usage.so_far()
    last, before = training.folder / LAST, training.epoch - 1
    checkpoint.save(last, before, weights, state, told, model, step=unfinished.step)


def resume(training: "Training") -> tuple[int, dict[str, Any]]:
    """Load the newest checkpoint; return its epoch (0: none) and that epoch's metrics."""
    found = newest_of_all(training)
    if training.machine.rank == 0:
        forget_after(training.folder, found.epoch if found else 0)
        if found and found.epoch:
            add_epoch(training.folder, found.metrics)
    if found is None:
        return 0, {}
    training.network.load_state_dict(found.weights)
    training.optimizer.load_state_dict(found.state["optimizer"])
    training.schedule.load_state_dict(found.state["schedule"])
    training.precision.load_state_dict(found.state["scaler"])
    if training.ema:
        training.ema.load_state_dict(found.state["ema"])
    training.best, training.best_epoch = found.state["best"], found.state["best_epoch"]
    training.begun = Unfinished(**found.state.get("unfinished", {}))
    return found.epoch, found.metrics


def newest_of_all(training: "Training") -> Checkpoint | None:
    """Return the newest checkpoint; with several ranks, the newest that all of them can read."""
    last = training.folder / LAST
    found = checkpoint.load(last)
    while training.ranks:
        own = (found.epoch, found.step) if found else (0, 0)
        number = own[0] * MOST_STEPS + own[1]
        ends = torch.tensor([number, -number], device=training.device)
        dist.all_reduce(ends, op=dist.ReduceOp.MIN)
        oldest, newest = int(ends[0]), -int(ends[1])
        if oldest == newest:
            break
        # A rank's node may lack just that one, so they ask each other again.
        found = checkpoint.load(last, at_most=divmod(oldest, MOST_STEPS))
    return found


def _description(training: "Training") -> dict[str, Any]:
    """What a checkpoint says of the network that its weights belong to."""
    return description(training.spec, training.task, training.recipe, training.normalise)


def _state(training: "Training") -> dict[str, Any]:
    """What training goes on with, beside the weights."""
    return {
        "optimizer": training.optimizer.state_dict(),
        "schedule": training.schedule.state_dict(),
        "scaler": training.precision.state_dict(),
        "ema": training.ema.state_dict() if training.ema else {},
        "best": training.best,
        "best_epoch": training.best_epoch,
    }


def _save_array(path: Path, values: Tensor) -> None:
    """Write a tensor as .npy, aside and renamed."""
    aside = path.with_name(f".{os.getpid()}.{path.name}")
    np.save(aside, values.numpy())
    aside.replace(path)
