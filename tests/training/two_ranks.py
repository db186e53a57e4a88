"""Runs a function on two gloo ranks, each a process of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def on_two_ranks(function: Callable[[int], Any], folder: Path) -> list[Any]:
    """Return what function(rank) returned on each rank."""
    torch.multiprocessing.spawn(_enter, (function, folder), nprocs=2)
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
