"""What all trials of a search share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysearch.cluster import Slots
from raysearch.config import Study
from raysearch.storage import Storage


@dataclass(frozen=True)
class Context:
    """What all trials of a search share. Paths lead to storage that every node sees."""

    run: Path
    root: Path
    cache: Path
    weights: Path
    digest: str
    study: Study
    slots: Slots
    launcher: str
    loader_workers: int
    storage: Storage | None = None  # Of the run, where nodes share no files.
    shared: Storage | None = None  # Of caches, for nodes that have no data.

    def folder(self, config: dict[str, Any]) -> Path:
        return self.run / "trials" / f"{config['number']:04d}"
