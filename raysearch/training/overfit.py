"""One batch learned by heart: proof that a network and its loss can learn at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from raysearch.config import Objective, Recipe, Task
from raysearch.data import Data
from raysearch.training.loop import Machine, Training
from raysearch.training.metrics import SegmentationMetrics

STEPS, EVERY = 300, 10
LEARNED = 0.9


def overfit_batch(
    recipe: Recipe,
    spec: dict[str, Any],
    task: Task,
    data: Data,
    folder: Path,
    machine: Machine,
    progress: Callable[[int, float, float], None],
) -> float:
    """Train on one batch without augmentation until its mIoU passes 0.9, or for 300 steps.

    Args:
        progress: told (step, loss, mIoU of the batch) every ten steps.

    Returns:
        The last mIoU of the batch.
    """
    plain = {
        "augment_strength": 0.0,
        "schedule": "plateau",
        "warmup": 0.0,
        "weight_decay": 0.0,
        "learning_rate": max(1e-3, recipe.learning_rate),
        "epochs": STEPS,
        "batch_size": min(4, recipe.batch_size),
        "accumulation": 1,
        "ema_decay": 0.0,
        "network": {**recipe.network, **({"dropout": 0.0} if "dropout" in recipe.network else {})},
    }
    recipe = recipe.model_copy(update=plain)
    training = Training(recipe, spec, task, data, Objective(), folder, machine)
    images, masks = next(iter(training.batches))
    value = 0.0
    for step in range(1, STEPS + 1):
        training.network.train()
        losses = training.step(images, masks)
        if step % EVERY == 0:
            value = _score(training, images, masks)
            progress(step, losses[0].item(), value)
            if value > LEARNED:
                break
    return value


@torch.inference_mode()
def _score(training: Training, images: torch.Tensor, masks: torch.Tensor) -> float:
    """mIoU with the batch's own statistics, as it was trained."""
    with training.precision.autocast():
        output = training.network(training.to_device(images))
    metrics = SegmentationMetrics(training.task, training.device)
    metrics.update(output.semantic.argmax(1), masks.to(training.device).long())
    return metrics.compute()["miou"]
