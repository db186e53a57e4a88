"""Metrics against sklearn and values worked out by hand, alone and on two ranks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from raysearch.config import Task
from raysearch.training.metrics import (
    BINS,
    SegmentationMetrics,
    background_miou,
    build_metrics,
    collapsed,
    majority_share,
    positive_scores,
    scores,
)
from tests.training.two_ranks import on_two_ranks

TASK = Task("segmentation", bands=3, classes=("ground", "cat", "dog", "owl"))
DEBRIS = Task("segmentation", bands=11, classes=("water", "debris"))
FOOD = Task("classification", bands=3, classes=tuple("abcdefgh"))


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


def of_rank(task: Task, pairs: list[tuple[Tensor, Tensor]], rank: int) -> dict[str, float]:
    """Rank 0 has one image, rank 1 the others."""
    metrics = build_metrics(task)
    for logits, target in pairs[:1] if rank == 0 else pairs[1:]:
        metrics.update(logits, target)
    return {**metrics.compute(), "counted": float(metrics.total().sum())}


def alone(
    task: Task, pairs: list[tuple[Tensor, Tensor]], threshold: float | None = None
) -> dict[str, float]:
    metrics = build_metrics(task, threshold=threshold)
    for logits, target in pairs:
        metrics.update(logits, target)
    return metrics.compute()


def logit_images() -> list[tuple[Tensor, Tensor]]:
    """The images with logits (1, 4, H, W) whose greatest are the predictions."""
    return [(F.one_hot(p, 4).permute(2, 0, 1)[None].float(), target) for p, target in images()]


def rank_of_every_task(rank: int) -> list[dict[str, float]]:
    return [
        of_rank(TASK, logit_images(), rank),
        of_rank(DEBRIS, debris(), rank),
        of_rank(FOOD, meals(), rank),
    ]


def test_sklearn() -> None:
    assert alone(TASK, logit_images()) == pytest.approx(expected())


def test_two_ranks_have_the_metrics_of_all_images(tmp_path: Path) -> None:
    first, second = on_two_ranks(rank_of_every_task, tmp_path)
    assert first == second
    tasks = ((TASK, logit_images()), (DEBRIS, debris()), (FOOD, meals()))
    for found, (task, pairs) in zip(first, tasks, strict=True):
        known = sum((target != task.ignore_index).sum().item() for _, target in pairs)
        assert found.pop("counted") == known
        assert found == pytest.approx(alone(task, pairs))


def test_predicted_ids_count_as_their_logits_do() -> None:
    metrics = SegmentationMetrics(TASK)
    for predicted, target in images():
        metrics.count(predicted, target)
    assert metrics.compute() == pytest.approx(expected())


def test_a_batch_counts_as_its_images_do() -> None:
    for task, pairs in ((DEBRIS, debris()), (FOOD, meals())):
        metrics = build_metrics(task)
        metrics.update(torch.cat([x for x, _ in pairs]), torch.stack([y for _, y in pairs]))
        assert metrics.compute() == alone(task, pairs)


@pytest.mark.parametrize("task", [TASK, DEBRIS, FOOD])
def test_every_metric_of_the_task_is_measured(task: Task) -> None:
    pairs = {TASK: logit_images(), DEBRIS: debris(), FOOD: meals()}[task]
    found = alone(task, pairs)
    assert set(task.scores) | {"collapsed"} == {name for name in found if "/" not in name}
    assert {name for name in found if "/" in name} <= set(task.metrics)


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
    ignored = torch.full((2, 2), TASK.ignore_index)
    zero = {"miou": 0.0, "pixel_accuracy": 0.0, "lowest_iou": 0.0, "collapsed": 0.0}
    assert alone(TASK, [(torch.zeros(1, 4, 2, 2), ignored)]) == zero


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ"):
        build_metrics(TASK).update(torch.zeros(1, 4, 2, 3), torch.zeros(3, 2))


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
    value = scores(confusion, TASK.classes)["miou"]
    assert background_miou(torch.tensor(pixels)) == pytest.approx(value)
    assert background_miou(torch.zeros(4)) == 0


def debris() -> list[tuple[Tensor, Tensor]]:
    """Three images, a tenth of whose pixels are debris and look a little like it."""
    generator = torch.Generator().manual_seed(5)
    pairs = []
    for _ in range(3):
        target = (torch.rand(30, 40, generator=generator) < 0.1).to(torch.uint8)
        logits = torch.randn(1, 2, 30, 40, generator=generator)
        logits[:, 1] += 2.0 * target - 2.5
        target[:2] = DEBRIS.ignore_index
        pairs.append((logits, target))
    return pairs


def debris_by_pixel() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of debris and the truth of every labelled pixel."""
    probability = torch.cat([x.softmax(1)[:, 1].flatten() for x, _ in debris()])
    truth = torch.cat([y.flatten() for _, y in debris()])
    known = truth != DEBRIS.ignore_index
    return probability[known].numpy(), truth[known].numpy()


class TestThreshold:
    @pytest.mark.parametrize("threshold", [None, 0.37, 0.5, 0.001])
    def test_sklearn(self, threshold: float | None) -> None:
        from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

        found = alone(DEBRIS, debris(), threshold)
        probability, truth = debris_by_pixel()
        predicted = probability >= found["threshold"]
        reference = {
            "f1": f1_score(truth, predicted),
            "precision": precision_score(truth, predicted),
            "recall": recall_score(truth, predicted),
            "positive_iou": jaccard_score(truth, predicted),
            "max_probability": probability.max(),
        }
        assert {name: found[name] for name in reference} == pytest.approx(reference)
        assert threshold is None or found["threshold"] == threshold

    def test_the_tuned_one_has_the_best_f1(self) -> None:
        from sklearn.metrics import precision_recall_curve

        probability, truth = debris_by_pixel()
        precision, recall, _ = precision_recall_curve(truth, probability)
        best = (2 * precision * recall / (precision + recall).clip(1e-9)).max()
        tuned = alone(DEBRIS, debris())
        assert best - 0.005 < tuned["f1"] <= best + 1e-9
        assert tuned["f1"] > alone(DEBRIS, debris(), 0.5)["f1"] + 0.05

    def test_by_hand(self) -> None:
        histogram = torch.zeros(2, BINS, dtype=torch.int64)
        histogram[0, [100, 300, 600]] = torch.tensor([50, 4, 2])
        histogram[1, [200, 300, 700]] = torch.tensor([1, 6, 3])
        # From 0.3 on: 9 of 10 found, 6 false. From 0.6: 3 found, 2 false. From 0.2: 10 and 6.
        found = positive_scores(histogram, threshold=0.3)
        assert found == pytest.approx(
            {
                "f1": 18 / 25,
                "precision": 9 / 15,
                "recall": 0.9,
                "positive_iou": 9 / 16,
                "threshold": 0.3,
            }
        )
        assert positive_scores(histogram)["f1"] == pytest.approx(20 / 26)
        assert positive_scores(histogram)["threshold"] == 0.2

    def test_of_equally_good_ones_the_nearest_to_a_half(self) -> None:
        for negative, positive, best in ((100, 900, 0.5), (100, 300, 0.3), (700, 900, 0.701)):
            histogram = torch.zeros(2, BINS, dtype=torch.int64)
            histogram[0, negative], histogram[1, positive] = 90, 10
            found = positive_scores(histogram)
            assert found["f1"] == 1
            assert found["threshold"] == best

    @pytest.mark.parametrize("truth", [0, 255])
    def test_without_positives_scores_are_zero_at_a_half(self, truth: int) -> None:
        target = torch.full((30, 40), truth)
        found = alone(DEBRIS, [(debris()[0][0], target)])
        names = ("f1", "precision", "recall", "positive_iou")
        assert [found[name] for name in names] == [0, 0, 0, 0]
        assert found["threshold"] == 0.5
        assert (found["max_probability"] > 0) == (truth == 0)

    def test_a_network_that_is_never_sure_keeps_its_order(self) -> None:
        """Rare positives at 0.0061 among negatives at 0.0021: argmax finds none of them."""
        target = torch.tensor([[0, 0, 0, 1]])
        probability = torch.where(target == 1, 0.0061, 0.0021)
        logits = torch.stack([1 - probability, probability]).log()[None]
        found = alone(DEBRIS, [(logits, target)])
        assert (found["f1"], found["threshold"]) == (1.0, 0.006)
        assert found["max_probability"] == pytest.approx(0.0061)
        assert found["collapsed"] == 1

    @pytest.mark.parametrize("threshold", [0.0, 1.0, -0.2])
    def test_a_threshold_without_a_decision_is_refused(self, threshold: float) -> None:
        with pytest.raises(ValueError, match="between"):
            positive_scores(torch.zeros(2, BINS), threshold)

    def test_certain_pixels_are_counted(self) -> None:
        logits = torch.tensor([-200.0, 200.0]).view(1, 1, 1, 2) * torch.tensor([0, 1]).view(
            1, 2, 1, 1
        )
        found = alone(DEBRIS, [(logits, torch.tensor([[0, 1]]))])
        assert (found["f1"], found["max_probability"]) == (1.0, 1.0)


def meals() -> list[tuple[Tensor, Tensor]]:
    """Logits (1, 8) and ids () of 60 images; the last class is neither true nor predicted."""
    generator = torch.Generator().manual_seed(7)
    ids = torch.randint(0, 7, (60,), generator=generator)
    logits = torch.randn(60, 8, generator=generator) + 1.5 * F.one_hot(ids, 8)
    logits[:, 7] -= 3
    return [(logits[n : n + 1], ids[n]) for n in range(60)]


class TestClassification:
    def test_sklearn(self) -> None:
        from sklearn.metrics import (
            accuracy_score,
            balanced_accuracy_score,
            recall_score,
            top_k_accuracy_score,
        )

        logits = torch.cat([x for x, _ in meals()]).numpy()
        truth = np.array([y.item() for _, y in meals()])
        predicted = logits.argmax(1)
        recall = recall_score(truth, predicted, average=None, labels=range(7))
        assert alone(FOOD, meals()) == pytest.approx(
            {
                "top1": accuracy_score(truth, predicted),
                "top5": top_k_accuracy_score(truth, logits, k=5, labels=range(8)),
                "balanced_accuracy": balanced_accuracy_score(truth, predicted),
                "lowest_accuracy": recall.min(),
                "collapsed": 0.0,
                **{
                    f"accuracy/{name}": value for name, value in zip("abcdefg", recall, strict=True)
                },
            }
        )

    def test_torchmetrics(self) -> None:
        from torchmetrics.functional.classification import multiclass_accuracy

        logits = torch.cat([x for x, _ in meals()])
        ids = torch.stack([y for _, y in meals()])
        found = alone(FOOD, meals())
        for k in (1, 5):
            reference = multiclass_accuracy(logits, ids, 8, average="micro", top_k=k)
            assert found[f"top{k}"] == pytest.approx(reference.item())

    def test_by_hand(self) -> None:
        """Three classes, all of them among the five likeliest."""
        task = Task("classification", bands=3, classes=("a", "b", "c"))
        logits = torch.tensor([[3.0, 1, 0], [3, 1, 0], [0, 1, 2], [0, 2, 1]])
        found = alone(task, [(logits, torch.tensor([0, 1, 1, 1]))])
        assert found == {
            "top1": 0.5,
            "top5": 1.0,
            "balanced_accuracy": pytest.approx((1 + 1 / 3) / 2),
            "lowest_accuracy": pytest.approx(1 / 3),
            "collapsed": 0.0,
            "accuracy/a": 1.0,
            "accuracy/b": pytest.approx(1 / 3),
        }

    def test_class_255_counts(self) -> None:
        task = Task("classification", bands=3, classes=tuple(f"c{n}" for n in range(300)))
        found = alone(task, [(F.one_hot(torch.tensor([255]), 300).float(), torch.tensor([255]))])
        assert found["top1"] == found["accuracy/c255"] == 1

    def test_the_same_answer_for_every_image_is_a_collapse(self) -> None:
        same = [(torch.eye(8)[:1], target) for _, target in meals()]
        assert alone(FOOD, same)["collapsed"] == 1

    def test_no_image_at_all(self) -> None:
        found = build_metrics(FOOD).compute()
        assert set(found.values()) == {0.0}

    def test_majority_alone(self) -> None:
        images = torch.tensor([3, 9, 0, 6])
        assert majority_share(images) == pytest.approx(0.5)
        assert majority_share(torch.zeros(4)) == 0
        confusion = torch.zeros(4, 4, dtype=torch.long)
        confusion[:, 1] = images
        top1 = scores(confusion, "abcd")["pixel_accuracy"]
        assert majority_share(images) == pytest.approx(top1)
