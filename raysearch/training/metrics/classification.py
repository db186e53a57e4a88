"""Scores of a classification, from one confusion matrix over all images."""

from collections.abc import Sequence

import torch
from torch import Tensor

from raysearch.config import Task
from raysearch.training.metrics.confusion import Metrics, collapsed, over_ranks


class ClassificationMetrics(Metrics):
    """Images by true and predicted class, and those whose class is among the five likeliest."""

    def __init__(self, task: Task, device: torch.device | str = "cpu") -> None:
        super().__init__(task, device)
        self.near = torch.zeros((), dtype=torch.int64, device=device)

    def update(self, logits: Tensor, target: Tensor) -> None:
        super().update(logits, target)
        likeliest = logits.topk(min(5, logits.shape[1]), dim=1).indices
        right = likeliest == target.to(logits.device).view(-1, 1)
        self.near += right.sum().to(self.device)

    def compute(self) -> dict[str, float]:
        confusion, near = self.total(), over_ranks(self.near)
        top5 = near.item() / max(1, int(confusion.sum()))
        return {**accuracies(confusion, self.task.classes), "top5": top5}


def accuracies(confusion: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """Return the metrics of a confusion matrix (K, K), rows true and columns predicted classes.

    top1: the share of images that are right; accuracy/<class>: that share of the images of each
    class that has any; balanced_accuracy: their mean; lowest_accuracy: the least of them;
    collapsed: 1.0 where `collapsed` holds. With no image at all the scores are 0 and no class is
    listed.
    """
    counts = confusion.double()
    right, images = counts.diagonal(), counts.sum(1)
    accuracy = {
        name: (right[index] / images[index]).item()
        for index, name in enumerate(classes)
        if images[index] > 0
    }
    return {
        "top1": (right.sum() / images.sum().clamp_min(1)).item(),
        "balanced_accuracy": sum(accuracy.values()) / max(1, len(accuracy)),
        "lowest_accuracy": min(accuracy.values(), default=0.0),
        "collapsed": float(collapsed(confusion)),
        **{f"accuracy/{name}": value for name, value in accuracy.items()},
    }


def majority_share(class_images: Tensor) -> float:
    """Return the top-1 accuracy of always answering the most frequent class.

    Args:
        class_images: (K,) images (or labelled pixels) of each class.
    """
    total = class_images.sum()
    return (class_images.max() / total).item() if total else 0.0
