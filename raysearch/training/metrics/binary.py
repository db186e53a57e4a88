"""Scores of a segmentation that looks for one class: how well at which threshold."""

import torch
import torch.distributed as dist
from torch import Tensor

from raysearch.config import Task
from raysearch.training.metrics.confusion import over_ranks
from raysearch.training.metrics.segmentation import SegmentationMetrics

BINS = 1000


class BinaryMetrics(SegmentationMetrics):
    """Beside the confusion matrix: pixels by truth and by the probability of class 1.

    Attributes:
        histogram: (2, BINS) of this rank, row 0 for pixels of class 0; bin i holds probabilities
            from i / BINS on.
        highest: probability of class 1 on a labelled pixel of this rank, 0 before there is one.
    """

    def __init__(
        self, task: Task, device: torch.device | str = "cpu", threshold: float | None = None
    ) -> None:
        super().__init__(task, device)
        self.threshold = threshold
        self.histogram = torch.zeros(2, BINS, dtype=torch.int64, device=device)
        self.highest = torch.zeros((), device=device)

    def update(self, logits: Tensor, target: Tensor) -> None:
        super().update(logits, target)
        logits = logits.float()
        probability = (logits[:, 1] - logits[:, 0]).sigmoid().flatten()
        truth = target.to(logits.device).flatten().long()
        known = truth != self.task.ignore_index
        probability, truth = probability[known], truth[known]
        bins = (probability * BINS).long().clamp_max(BINS - 1)
        counts = torch.bincount(truth * BINS + bins, minlength=2 * BINS)
        self.histogram += counts.view(2, BINS).to(self.device)
        if probability.numel():
            self.highest = torch.maximum(self.highest, probability.max().to(self.device))

    def compute(self) -> dict[str, float]:
        highest = over_ranks(self.highest, dist.ReduceOp.MAX).item()
        positive = positive_scores(over_ranks(self.histogram), self.threshold)
        return {**super().compute(), **positive, "max_probability": highest}


def positive_scores(histogram: Tensor, threshold: float | None = None) -> dict[str, float]:
    """Return f1, precision, recall and positive_iou of class 1 at a threshold, and the threshold.

    A pixel counts as found where its probability is at least the threshold. A score without
    pixels to divide by is 0.

    Args:
        histogram: (2, BINS) pixels of class 0 and 1 by the probability of class 1.
        threshold: taken to the nearest thousandth; None takes the one of 0.001 to 0.999 with the
            best F1, and of equally good ones the nearest to 0.5 (which it is without positives).
    """
    negatives, positives = histogram.double()
    found = positives.flip(0).cumsum(0).flip(0)
    false = negatives.flip(0).cumsum(0).flip(0)
    missed = positives.sum() - found
    f1 = _ratio(2 * found, 2 * found + false + missed)
    place = best_bin(f1) if threshold is None else round(threshold * BINS)
    if not 0 < place < BINS:
        raise ValueError(f"threshold {threshold} is not between 0.001 and 0.999")
    return {
        "f1": f1[place].item(),
        "precision": _ratio(found, found + false)[place].item(),
        "recall": _ratio(found, found + missed)[place].item(),
        "positive_iou": _ratio(found, found + false + missed)[place].item(),
        "threshold": place / BINS,
    }


def best_bin(f1: Tensor) -> int:
    """Return the bin from 1 on with the highest F1; of equal ones that nearest to the middle.

    Bin 0 would call every pixel positive, whatever the network says.
    """
    best = (f1[1:] == f1[1:].max()).nonzero().flatten() + 1
    return int(best[(best - BINS // 2).abs().argmin()])


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return part / whole.clamp_min(1)
