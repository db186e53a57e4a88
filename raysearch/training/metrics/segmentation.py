"""Scores of a segmentation, from one confusion matrix over all pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from raysearch.config import Task
from raysearch.training.metrics.confusion import Metrics, collapsed


class SegmentationMetrics(Metrics):
    """Pixels by true and predicted class."""

    def __init__(self, task: Task, device: torch.device | str = "cpu") -> None:
        super().__init__(task, device)
        self.ignore_index = task.ignore_index

    def compute(self) -> dict[str, float]:
        return scores(self.total(), self.task.classes)


def scores(confusion: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """Return the metrics of a confusion matrix (K, K), rows true and columns predicted classes.

    miou: mean over the classes that occur among true or predicted pixels; iou/<class>: each of
    those; lowest_iou: the least of them; pixel_accuracy: the share of pixels that are right;
    collapsed: 1.0 where `collapsed` holds. With no pixel at all the scores are 0 and no class is
    listed.
    """
    counts = confusion.double()
    right = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - right
    iou = {
        name: (right[index] / union[index]).item()
        for index, name in enumerate(classes)
        if union[index] > 0
    }
    return {
        "miou": sum(iou.values()) / max(1, len(iou)),
        "pixel_accuracy": (right.sum() / counts.sum().clamp_min(1)).item(),
        "lowest_iou": min(iou.values(), default=0.0),
        "collapsed": float(collapsed(confusion)),
        **{f"iou/{name}": value for name, value in iou.items()},
    }


def background_miou(class_pixels: Tensor) -> float:
    """Return the mIoU of predicting background (class 0) everywhere.

    Args:
        class_pixels: (K,) labelled pixels of each class.
    """
    total = class_pixels.sum()
    if total == 0:
        return 0.0
    occurring = class_pixels > 0
    occurring[0] = True
    return (class_pixels[0] / total / occurring.sum()).item()
