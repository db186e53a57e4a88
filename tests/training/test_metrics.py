"""Metrics against sklearn and values worked out by hand, alone and on two ranks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from raysearch.config import Task
from raysearch.training.metrics import SegmentationMetrics, background_miou, collapsed, scores
from tests.training.two_ranks import on_two_ranks

TASK = Task("segmentation", bands=3, classes=("ground", "cat", "dog", "owl"))


def images() -> list[tuple[Tensor, Tensor]]:
    """Four predictions and masks of different sizes; no owl in any of them."""
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for height, width in ((5, 7), (9, 4), (6, 6), (3, 11)):
        predicted = torch.randint(0, 3, (height, width), generator=generator)
        target = torch.randint(0, 3, (height, width), generator=generator).to(torch.uint8)
        target[0, :2] = TASK.ignore_index
        pairs.append((predicted, target))
    return pairs


def expected() -> dict[str, float]:
    from sklearn.metrics import accuracy_score, jaccard_score  # slow, and no rank needs it

    predicted = np.concatenate([p.numpy().ravel() for p, _ in images()])
    target = np.concatenate([t.numpy().ravel() for _, t in images()])
    known = target != TASK.ignore_index
    predicted, target = predicted[known], target[known]
    iou = jaccard_score(target, predicted, average=None, labels=[0, 1, 2])
    return {
        "miou": iou.mean(),
        "pixel_accuracy": accuracy_score(target, predicted),
        "lowest_iou": iou.min(),
        "collapsed": 0.0,
        **{f"iou/{name}": value for name, value in zip(TASK.classes, iou, strict=False)},
    }


def metrics_of_rank(rank: int) -> dict[str, float]:
    """Rank 0 has one image, rank 1 the other three."""
    metrics = SegmentationMetrics(TASK)
    for predicted, target in images()[:1] if rank == 0 else images()[1:]:
        metrics.update(predicted, target)
    return metrics.compute()


def test_sklearn() -> None:
    metrics = SegmentationMetrics(TASK)
    for predicted, target in images():
        metrics.update(predicted, target)
    assert metrics.compute() == pytest.approx(expected())


def test_sklearn_on_two_ranks(tmp_path: Path) -> None:
    first, second = on_two_ranks(metrics_of_rank, tmp_path)
    assert first == second
    assert first == pytest.approx(expected())


def test_by_hand() -> None:
    confusion = torch.tensor([[6, 2, 0, 0], [1, 3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert scores(confusion, TASK.classes) == pytest.approx(
        {
            "miou": (6 / 9 + 3 / 6) / 2,
            "pixel_accuracy": 9 / 12,
            "lowest_iou": 0.5,
            "collapsed": 0.0,
            "iou/ground": 6 / 9,
            "iou/cat": 0.5,
        }
    )


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    confusion = torch.tensor([[6, 0, 2, 0], [0, 4, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    result = scores(confusion, TASK.classes)
    assert result["iou/dog"] == result["lowest_iou"] == 0
    assert result["miou"] == pytest.approx((6 / 8 + 1 + 0) / 3)
    assert "iou/owl" not in result


def test_no_pixels_at_all() -> None:
    metrics = SegmentationMetrics(TASK)
    ignored = torch.full((2, 2), TASK.ignore_index)
    metrics.update(torch.zeros(2, 2, dtype=torch.long), ignored)
    zero = {"miou": 0.0, "pixel_accuracy": 0.0, "lowest_iou": 0.0, "collapsed": 0.0}
    assert metrics.compute() == zero


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ"):
        SegmentationMetrics(TASK).update(torch.zeros(2, 3), torch.zeros(3, 2))


@pytest.mark.parametrize(
    ("confusion", "verdict"),
    [
        ([[750, 0], [250, 0]], True),  # background alone
        ([[746, 4], [250, 0]], True),  # 4 stray pixels for 250 of the class
        ([[740, 10], [250, 0]], False),  # wrong, but not one class alone
        ([[0, 750], [0, 250]], True),  # foreground alone
        ([[998, 0], [0, 2]], False),  # a set that is 99.8 % background, well segmented
        ([[1000, 0], [0, 0]], False),  # labels of one class only
        ([[0, 0], [0, 0]], False),
    ],
)
def test_collapsed(confusion: list[list[int]], verdict: bool) -> None:
    assert collapsed(torch.tensor(confusion)) is verdict


@pytest.mark.parametrize("pixels", [[70, 20, 10, 0], [0, 5, 5, 0], [8, 0, 0, 0]])
def test_background_alone(pixels: list[int]) -> None:
    confusion = torch.zeros(4, 4, dtype=torch.long)
    confusion[:, 0] = torch.tensor(pixels)
    alone = scores(confusion, TASK.classes)["miou"]
    assert background_miou(torch.tensor(pixels)) == pytest.approx(alone)
    assert background_miou(torch.zeros(4)) == 0
