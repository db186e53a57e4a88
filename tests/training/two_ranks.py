"""Runs a function on two gloo ranks, each a process of its own."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

# Imported once, in the process of which the ranks are forks.
PRELOADED = ["torch", "torchmetrics", "timm", "raysearch.training.loop", "raysearch.models"]


def on_two_ranks(function: Callable[[int], Any], folder: Path) -> list[Any]:
    """Return what function(rank) returned on each rank."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    start_processes(_enter, (function, folder), nprocs=2, start_method="forkserver")
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def _enter(rank: int, function: Callable[[int], Any], folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=2
    )
    try:
        torch.save(function(rank), folder / f"rank{rank}.pt")
    finally:
        dist.destroy_process_group()
