"""The confusion matrix that every task's metrics are built on."""

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from raysearch.config import Task


class Metrics:
    """Counts by true and predicted class; equal on every rank once computed.

    Attributes:
        confusion: (K, K) of this rank, rows are true classes.
    """

    ignore_index: int | None = None

    def __init__(self, task: Task, device: torch.device | str = "cpu") -> None:
        self.task = task
        self.device = torch.device(device)
        shape = (task.num_classes, task.num_classes)
        self.confusion = torch.zeros(shape, dtype=torch.int64, device=device)

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count one or more images.

        Args:
            logits: (N, K, H, W) of a segmentation, (N, K) of a classification.
            target: ids (N, H, W) or (N,); of one image the N may be left out.
        """
        if target.dim() == logits.dim() - 2:
            target = target.unsqueeze(0)
        # Ten times as fast on a CPU as argmax over the channels, and equal to it.
        self.count(logits.max(1).indices, target)

    def count(self, predicted: Tensor, target: Tensor) -> None:
        """Count predicted class ids against true ones, of the same shape and any integer type."""
        if predicted.shape != target.shape:
            raise ValueError(f"predicted {predicted.shape} and target {target.shape} differ")
        counts = multiclass_confusion_matrix(
            predicted.long(),
            target.to(predicted.device).long(),
            self.task.num_classes,
            ignore_index=self.ignore_index,
            validate_args=False,
        )
        self.confusion += counts.to(self.device)

    def total(self) -> Tensor:
        """Return the confusion matrix (K, K) over all ranks: rows are true classes."""
        return over_ranks(self.confusion)

    def compute(self) -> dict[str, float]:
        """Return the scores over all ranks; every rank must call it."""
        raise NotImplementedError


def over_ranks(values: Tensor, how: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Tensor:
    """Return the sum (or what `how` says) of every rank's values, on the CPU."""
    values = values.clone()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values, op=how)
    return values.cpu()


def collapsed(confusion: Tensor) -> bool:
    """Whether a network predicts (almost) one class alone where the labels have several.

    True where the pixels outside its most predicted class are fewer than 2 % of the pixels that
    the labels have outside that class. With 75 % background that is 99.5 % of all pixels, and a
    set that truly is 99.8 % background does not count as collapsed by that alone. Images of a
    classification count as pixels do.
    """
    predicted, labelled = confusion.sum(0), confusion.sum(1)
    favourite = int(predicted.argmax())
    other_predicted = predicted.sum() - predicted[favourite]
    other_labelled = labelled.sum() - labelled[favourite]
    return bool(other_labelled > 0 and other_predicted < 0.02 * other_labelled)
