"""Scores that are summed image by image, and how far chance may move them."""

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap

from raysearch.config import Task
from raysearch.inference.tallies import Tallies
from raysearch.training.metrics import build_metrics

PETS = Task("segmentation", 3, ("background", "cat", "dog"))
WATER = Task("segmentation", 3, ("land", "water"))
DISHES = Task("classification", 3, tuple(f"dish {number}" for number in range(7)))


def image(task: Task, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits and labels of one image; a tenth of the pixels is ignored."""
    if not task.segments:
        logits = torch.randn(1, task.num_classes, generator=generator)
        return logits, torch.randint(task.num_classes, (), generator=generator)
    height, width = torch.randint(5, 20, (2,), generator=generator).tolist()
    target = torch.randint(task.num_classes, (height, width), generator=generator)
    target[torch.rand(height, width, generator=generator) < 0.1] = task.ignore_index
    return torch.randn(1, task.num_classes, height, width, generator=generator), target


@pytest.mark.parametrize(("task", "threshold"), [(PETS, None), (WATER, 0.371), (DISHES, None)])
def test_they_are_the_scores_of_training(task: Task, threshold: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    metrics, tallies = build_metrics(task, threshold=threshold), Tallies(task, threshold)
    for _ in range(25 if task.segments else 100):
        logits, target = image(task, generator)
        metrics.update(logits, target)
        tallies.update(logits, target)
    known, found = metrics.compute(), tallies.scores()
    assert found == pytest.approx({name: known[name] for name in found})
    told = {*task.scores} - {"threshold", "max_probability"}
    assert told | {f"{task.by_class}/{name}" for name in task.classes} <= found.keys()


def answers(right: int, count: int) -> Tallies:
    """A classification with so many right images of class 0; the others are taken for class 6."""
    tallies = Tallies(DISHES)
    for number in range(count):
        logits = torch.eye(7)[[0 if number < right else 6]]
        tallies.update(logits, torch.tensor(0))
    return tallies


def test_the_bootstrap_agrees_with_scipy() -> None:
    low, high = answers(30, 100).bootstrap()["top1"]
    hits = np.arange(100) < 30
    known = bootstrap(
        (hits,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert low == pytest.approx(known.low, abs=0.015)
    assert high == pytest.approx(known.high, abs=0.015)


def test_the_bootstrap_draws_images_not_pixels() -> None:
    """Two images, one all right and one all wrong: whatever their size, a quarter of the draws
    takes the first twice, a quarter the second twice."""
    tallies = Tallies(PETS)
    for number in range(2):
        logits = torch.zeros(1, 3, 50, 50)
        logits[:, number] = 1
        tallies.update(logits, torch.zeros(50, 50))
    assert tallies.scores()["pixel_accuracy"] == 0.5
    assert tallies.bootstrap()["pixel_accuracy"] == (0.0, 1.0)


def test_equal_images_leave_nothing_to_chance() -> None:
    assert answers(20, 20).bootstrap()["top1"] == (1.0, 1.0)


def test_one_image_says_nothing_of_others() -> None:
    assert answers(1, 1).bootstrap() == {}


def test_the_same_images_give_the_same_interval() -> None:
    assert answers(7, 20).bootstrap() == answers(7, 20).bootstrap()


def test_wilson_by_hand() -> None:
    """3 of 10: centre (p + z²/2n) / (1 + z²/n), half width z sqrt(pq/n + z²/4n²) / (1 + z²/n)."""
    z, n, p = 1.959963985, 10, 0.3
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5 / (1 + z**2 / n)
    found = answers(3, 10).wilson()
    assert found["top1"] == pytest.approx((centre - half, centre + half))
    assert found["accuracy/dish 0"] == pytest.approx(found["top1"])
    assert "accuracy/dish 1" not in found


def test_wilson_is_for_whole_images() -> None:
    tallies = Tallies(PETS)
    tallies.update(torch.zeros(1, 3, 4, 4), torch.zeros(4, 4))
    assert tallies.wilson() == {}


def test_a_class_that_occurs_nowhere_has_no_score() -> None:
    tallies = Tallies(PETS)
    tallies.update(torch.eye(3)[0].view(1, 3, 1, 1).expand(1, 3, 4, 4), torch.zeros(4, 4))
    tallies.update(torch.eye(3)[0].view(1, 3, 1, 1).expand(1, 3, 4, 4), torch.zeros(4, 4))
    assert tallies.scores()["miou"] == 1.0
    assert {"iou/cat", "iou/dog"}.isdisjoint({*tallies.scores(), *tallies.bootstrap()})
