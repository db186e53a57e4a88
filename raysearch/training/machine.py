"""What a trial is given beside its recipe and data: a rank's share of a machine, other trials."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from raysearch.training.memory import Limits
from raysearch.training.unfinished import never
from raysearch.training.usage import Usage


@dataclass(frozen=True)
class Machine:
    """What the machine gives a trial: one of `world` ranks, its threads and loader workers.

    must_go: asked after every step; whether this process is about to be taken away.
    limits: what is known to fit on this kind of GPU; None tries nothing.
    usage: of the GPU, which every epoch tells.
    """

    rank: int = 0
    world: int = 1
    threads: int = 1
    loader_workers: int = 0
    device: torch.device | None = None
    must_go: Callable[[], bool] = never
    limits: Limits | None = None
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Sources:
    """Trained trials that a trial builds upon: folders.

    init: whose weights it begins with.
    teachers: whose mean probabilities it learns from.
    """

    init: Path | None = None
    teachers: tuple[Path, ...] = ()
