"""One batch learned by heart: proof that a network and its loss can learn at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raysearch.config import Objective, Recipe, Task
from raysearch.data import Batch, Data
from raysearch.training.loop import Training
from raysearch.training.machine import Machine
from raysearch.training.metrics import build_metrics

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
    """Train on one batch without augmentation until its score passes 0.9, or for 300 steps.

    The score is the mIoU, or the top-1 accuracy of a classification.

    Args:
        progress: told (step, loss, score of the batch) every ten steps.

    Returns:
        The last score of the batch.
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
        "mixup_alpha": 0.0,
        "cutmix_alpha": 0.0,
        "label_smoothing": 0.0,
        "frozen": 0.0,
    }
    recipe = recipe.model_copy(update=plain)
    training = Training(recipe, spec, task, data, Objective(), folder, machine)
    _without_dropout(training.network)
    batch = next(iter(training.batches))
    value = 0.0
    for step in range(1, STEPS + 1):
        training.network.train()
        losses = training.step(batch)
        if step % EVERY == 0:
            value = _score(training, batch)
            progress(step, losses[0].item(), value)
            if value > LEARNED:
                break
    return value


def _without_dropout(network: nn.Module) -> None:
    """Switch off what is there to keep a network from learning by heart."""
    for module in network.modules():
        for name in ("p", "drop_prob"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


@torch.inference_mode()
def _score(training: Training, batch: Batch) -> float:
    """The headline metric with the batch's own statistics, as it was trained."""
    task, mixed = training.task, training.mixed(batch, (0,))
    with training.precision.autocast():
        logits = training.network(training.normalised(mixed.images)).semantic.float()
    metrics = build_metrics(task, training.device)
    for one, ids in zip(logits.split(1), mixed.parts[0].ids, strict=True):
        metrics.update(one, ids)
    return metrics.compute()[task.headline]
