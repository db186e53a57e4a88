"""What a network is measured by, over whole images and all ranks.

`build_metrics` chooses by the task; every kind has `update` for the logits of images, `count` for
ids that are predicted already, `total` for the confusion matrix and `compute` for the scores.
"""

import torch

from raysearch.config import Task
from raysearch.training.metrics.binary import BINS, BinaryMetrics, positive_scores
from raysearch.training.metrics.classification import ClassificationMetrics, majority_share
from raysearch.training.metrics.confusion import Metrics, collapsed
from raysearch.training.metrics.segmentation import SegmentationMetrics, background_miou, scores

__all__ = [
    "BINS",
    "BinaryMetrics",
    "ClassificationMetrics",
    "Metrics",
    "SegmentationMetrics",
    "background_miou",
    "build_metrics",
    "collapsed",
    "majority_share",
    "positive_scores",
    "scores",
]


def build_metrics(
    task: Task, device: torch.device | str = "cpu", threshold: float | None = None
) -> Metrics:
    """Return empty metrics of a task.

    Args:
        threshold: of a two-class segmentation, on the probability of class 1, in thousandths; None
            takes the one of the best F1, which validation data may choose and test data may not.
    """
    if not task.segments:
        return ClassificationMetrics(task, device)
    if task.binary:
        return BinaryMetrics(task, device, threshold)
    return SegmentationMetrics(task, device)
