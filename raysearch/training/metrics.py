"""Segmentation metrics from one confusion matrix over whole images and all ranks."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from raysearch.config import Task


class SegmentationMetrics:
    """Counts pixels by true and predicted class; equal on every rank once computed."""

    def __init__(self, task: Task, device: torch.device | str = "cpu") -> None:
        self.task = task
        shape = (task.num_classes, task.num_classes)
        self.confusion = torch.zeros(shape, dtype=torch.int64, device=device)

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Count the pixels of one or more images.

        Args:
            predicted: class ids, of any shape and integer type.
            target: class ids or the ignore index, of the same shape.
        """
        if predicted.shape != target.shape:
            raise ValueError(f"predicted {predicted.shape} and target {target.shape} differ")
        counts = multiclass_confusion_matrix(
            predicted.long(),
            target.to(predicted.device).long(),
            self.task.num_classes,
            ignore_index=self.task.ignore_index,
            validate_args=False,
        )
        self.confusion += counts.to(self.confusion.device)

    def total(self) -> Tensor:
        """Return the confusion matrix (K, K) over all ranks: rows are true classes."""
        total = self.confusion.clone()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(total)
        return total.cpu()

    def compute(self) -> dict[str, float]:
        """Return the scores over all ranks; every rank must call it."""
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


def collapsed(confusion: Tensor) -> bool:
    """Whether a network predicts (almost) one class alone where the labels have several.

    True where the pixels outside its most predicted class are fewer than 2 % of the pixels that
    the labels have outside that class. With 75 % background that is 99.5 % of all pixels, and a
    set that truly is 99.8 % background does not count as collapsed by that alone.
    """
    predicted, labelled = confusion.sum(0), confusion.sum(1)
    favourite = int(predicted.argmax())
    other_predicted = predicted.sum() - predicted[favourite]
    other_labelled = labelled.sum() - labelled[favourite]
    return bool(other_labelled > 0 and other_predicted < 0.02 * other_labelled)


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
