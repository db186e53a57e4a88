"""What each image adds to a data set's scores, so that chance can be told from difference."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch import Tensor

from raysearch.config import Task
from raysearch.training.metrics import BINS

DRAWS, BLOCK, SEED = 1000, 50, 0
CONFIDENCE = 0.95
TOP = 5

Floats = NDArray[np.float64]


class Tallies:
    """Counts of each image: right, labelled and predicted pixels of each class, or the image's own.

    Two-class tasks are counted by the most probable class and, for the positive class, by the
    threshold too.

    Args:
        threshold: least probability of the positive class.
    """

    def __init__(self, task: Task, threshold: float | None = None) -> None:
        self.task = task
        self.threshold = threshold if task.binary else None
        self.rows: list[Floats] = []

    def __len__(self) -> int:
        return len(self.rows)

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count one image.

        Args:
            logits: (1, K, H, W), or (1, K) of a whole image.
            target: class ids (H, W), or () of a whole image.
        """
        target = target.to(logits.device).long()
        known = target != self.task.ignore_index if self.task.segments else target == target
        row = [_counts(logits.argmax(1)[0][known], target[known], self.task.num_classes)]
        if self.threshold is not None:
            found = self._found(logits[0].float())[known]
            row.append(_counts(found.long(), target[known], 2)[:, 1:])
        if not self.task.segments:
            best = logits[0].topk(min(TOP, self.task.num_classes)).indices
            row.append((best == target).any().double().cpu().numpy().reshape(1, 1))
        self.rows.append(np.concatenate([part.ravel() for part in row]))

    def count(self, confusion: Tensor) -> None:
        """Count one mask, whose classes are decided, by its confusion matrix, rows true classes."""
        parts = [confusion.diagonal(), confusion.sum(1), confusion.sum(0)]
        counts = torch.stack(parts).double().cpu().numpy()
        both = [counts] if self.threshold is None else [counts, counts[:, 1:]]
        self.rows.append(np.concatenate([part.ravel() for part in both]))

    def _found(self, logits: Tensor) -> Tensor:
        """Whether each pixel of logits (2, H, W) counts as positive, to the metrics' thousandth."""
        assert self.threshold is not None
        probability = (logits[1] - logits[0]).sigmoid()
        return (probability * BINS).long() >= round(self.threshold * BINS)

    def scores(self) -> dict[str, float]:
        """Return the scores over all images; a class that occurs nowhere has none."""
        found = self._scores(np.sum(self.rows, axis=0, keepdims=True))
        return {name: float(v[0]) for name, v in found.items() if np.isfinite(v[0])}

    def bootstrap(self, draws: int = DRAWS, seed: int = SEED) -> dict[str, tuple[float, float]]:
        """Return 95 % intervals of the scores, by drawing as many images anew with replacement.

        The percentile bootstrap (Efron and Tibshirani 1993, chapter 13) over images, not pixels:
        pixels of one image are no independent observations. Empty for a single image, which says
        nothing of others.
        """
        return _ends(self._drawn(draws, seed)) if len(self.rows) > 1 else {}

    def difference(
        self, other: "Tallies", draws: int = DRAWS, seed: int = SEED
    ) -> dict[str, tuple[float, float]]:
        """Return 95 % intervals of these scores minus another network's on the same images.

        Both are scored on the same drawn images (the paired bootstrap), so what makes an image easy
        or hard for both falls out. Empty for a single image.
        """
        if len(self) != len(other):
            raise ValueError(f"{len(self)} images are not those of {len(other)}")
        if len(self) < 2:
            return {}
        own, others = self._drawn(draws, seed), other._drawn(draws, seed)
        return _ends({name: own[name] - others[name] for name in own if name in others})

    def _drawn(self, draws: int, seed: int) -> Mapping[str, Floats]:
        """The scores of data sets (draws,) of as many images, the same for the same seed."""
        random, rows, count = np.random.default_rng(seed), np.stack(self.rows), len(self.rows)
        sizes = [min(BLOCK, draws - first) for first in range(0, draws, BLOCK)]
        even = np.full(count, 1 / count)
        sums = [random.multinomial(count, even, size).astype(np.float64) @ rows for size in sizes]
        return self._scores(np.concatenate(sums))

    def wilson(self) -> dict[str, tuple[float, float]]:
        """Return Wilson's 95 % intervals of a classification's shares of right images."""
        if self.task.segments or not self.rows:
            return {}
        total = np.sum(self.rows, axis=0)
        right, labelled, _ = total[: 3 * self.task.num_classes].reshape(3, -1)
        told = {"top1": (right.sum(), len(self)), f"top{TOP}": (total[-1], len(self))}
        for name, hits, count in zip(self.task.classes, right, labelled, strict=True):
            told[f"{self.task.by_class}/{name}"] = (hits, count)
        return {name: _wilson(int(k), int(n)) for name, (k, n) in told.items() if n}

    def _scores(self, sums: Floats) -> Mapping[str, Floats]:
        """The scores of several data sets (D,), from their summed rows (D, F); NaN for none."""
        task, width = self.task, 3 * self.task.num_classes
        right, labelled, predicted = np.moveaxis(
            sums[:, :width].reshape(len(sums), 3, task.num_classes), 1, 0
        )
        share = right.sum(1) / np.maximum(1, labelled.sum(1))
        if not task.segments:
            accuracy = _ratio(right, labelled)
            whole = {
                "top1": share,
                f"top{TOP}": sums[:, -1] / np.maximum(1, labelled.sum(1)),
                "balanced_accuracy": _mean(accuracy),
                "lowest_accuracy": _least(accuracy),
            }
            return whole | _named(task, accuracy)
        iou = _ratio(right, labelled + predicted - right)
        whole = {"miou": _mean(iou), "lowest_iou": _least(iou), "pixel_accuracy": share}
        if self.threshold is not None:
            whole |= _positive(*sums[:, width : width + 3].T)
        return whole | _named(task, iou)


def confusions(found: Tensor, target: Tensor, classes: int, ignore_index: int | None) -> Tensor:
    """Return the confusion matrices (A, K, K), rows true classes, of several answers at once.

    Args:
        found: class ids, int64 (A, ...).
        target: class ids (...), of which ignored ones are left out.
    """
    truth = target.flatten().long()
    pairs = truth * classes + found.flatten(1)
    if ignore_index is not None:
        pairs = pairs[:, truth != ignore_index]
    pairs = pairs + classes**2 * torch.arange(len(pairs), device=pairs.device)[:, None]
    counts = torch.bincount(pairs.flatten(), minlength=classes**2 * len(pairs))
    return counts.view(-1, classes, classes)


def _counts(predicted: Tensor, target: Tensor, classes: int) -> Floats:
    """Right, labelled and predicted ones of each class, (3, K)."""
    parts = (target[predicted == target], target, predicted)
    counts = [torch.bincount(part.reshape(-1), minlength=classes) for part in parts]
    return torch.stack(counts).double().cpu().numpy()


def _positive(right: Floats, labelled: Floats, predicted: Floats) -> dict[str, Floats]:
    """The positive class's scores; 0 where there is nothing to be right about, as in training."""
    pairs = {
        "f1": (2 * right, labelled + predicted),
        "precision": (right, predicted),
        "recall": (right, labelled),
        "positive_iou": (right, labelled + predicted - right),
    }
    return {name: np.nan_to_num(_ratio(*pair)) for name, pair in pairs.items()}


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)


def _mean(scores: Floats) -> Floats:
    """The mean over the classes that occur, (D,)."""
    return np.nansum(scores, axis=1) / np.maximum(1, np.isfinite(scores).sum(1))


def _least(scores: Floats) -> Floats:
    least = np.where(np.isfinite(scores), scores, np.inf).min(axis=1)
    return np.where(np.isfinite(least), least, 0.0)


def _named(task: Task, scores: Floats) -> dict[str, Floats]:
    return {f"{task.by_class}/{name}": scores[:, k] for k, name in enumerate(task.classes)}


def _ends(scores: Mapping[str, Floats]) -> dict[str, tuple[float, float]]:
    """Both ends of the middle 95 % of drawn scores."""
    tail = (1 - CONFIDENCE) / 2
    found = {}
    for name, values in scores.items():
        drawn = values[np.isfinite(values)]
        if len(drawn):
            low, high = np.quantile(drawn, (tail, 1 - tail))
            found[name] = (float(low), float(high))
    return found


def _wilson(right: int, count: int) -> tuple[float, float]:
    ends = binomtest(right, count).proportion_ci(CONFIDENCE, method="wilson")
    return float(ends.low), float(ends.high)
