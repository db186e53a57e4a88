"""A trial's history: one line of JSON an epoch, in its folder."""

import json
import os
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"


def append_epoch(folder: Path, metrics: dict[str, Any]) -> None:
    """Append one epoch's metrics as a line that is whole or, after a kill, recognised as torn."""
    with (folder / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(metrics) + "\n")


def add_epoch(folder: Path, metrics: dict[str, Any]) -> None:
    """Append an epoch that the history lacks."""
    if all(known["epoch"] != metrics["epoch"] for known in read_history(folder)):
        append_epoch(folder, metrics)


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return the epochs in order, without torn lines; of an epoch told twice the last counts."""
    path = folder / METRICS
    if not path.is_file():
        return []
    epochs: dict[int, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            metrics = json.loads(line)
        except ValueError:
            continue
        epochs[metrics["epoch"]] = metrics
    return [epochs[epoch] for epoch in sorted(epochs)]


def forget_after(folder: Path, epoch: int) -> None:
    """Drop the epochs after the one that training resumes from; they will be trained again."""
    kept = [metrics for metrics in read_history(folder) if metrics["epoch"] <= epoch]
    aside = folder / f".{METRICS}.{os.getpid()}"
    aside.write_text("".join(json.dumps(metrics) + "\n" for metrics in kept), encoding="utf-8")
    aside.replace(folder / METRICS)
