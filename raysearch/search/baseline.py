"""What an answer that never looks at the image scores on validation."""

from typing import Any

import torch

from raysearch.config import Task
from raysearch.config.task import POSITIVE
from raysearch.data import Data
from raysearch.training.metrics import majority_share, scores


def baseline(task: Task, metric: str, data: Data) -> dict[str, Any]:
    """What an answer that never looks at the image scores on validation."""
    counts = torch.from_numpy(data.cache.class_pixels[list(data.indices("val"))].sum(0))
    if not task.segments:
        return {"name": "always the most frequent class", "value": majority_share(counts)}
    if task.binary and metric in POSITIVE:  # Found everywhere, it is right where it is.
        share = (counts[1] / counts.sum().clamp_min(1)).item()
        found = {"precision": share, "recall": 1.0, "f1": 2 * share / (1 + share)}
        value = found.get(metric, share)
        return {"name": f"predicting {task.classes[1]} everywhere", "value": value}
    confusion = torch.zeros(len(counts), len(counts), dtype=torch.int64)
    confusion[:, 0] = counts
    told = scores(confusion, task.classes)
    name = "predicting background alone"
    return {"name": name, "value": told.get(metric, told[task.headline])}
