"""Proof that what was sampled is what trains: live objects read back against the recipe."""

from collections.abc import Mapping
from typing import Any

import torch

from raysearch.config import Recipe
from raysearch.errors import TrialError
from raysearch.training.losses import Loss
from raysearch.training.optimisation import Ema, Schedule

# Clipping, early stopping and the like are read from the recipe at the moment of their use.


def live_values(
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    loss: Loss,
    batches: Any,
    ema: Ema | None,
) -> dict[str, Any]:
    """Return what a trial's parts work with now, by the names of the recipe."""
    rates = {
        group["lr"] / schedule.factor(schedule.steps)
        for group in optimizer.param_groups
        if schedule.factor(schedule.steps)
    }
    return {
        "learning_rate": max(rates, default=schedule.learning_rate),
        "weight_decay": max(group["weight_decay"] for group in optimizer.param_groups),
        "warmup": schedule.warmup,
        "ema_decay": ema.decay if ema else 0.0,
        **loss.live_values(),
        **batches.live_values(),
    }


def check_live(recipe: Recipe, live: Mapping[str, Any]) -> None:
    """Compare live values with the recipe.

    Raises:
        TrialError: one differs, so the trial would not train what its record says.
    """
    asked = recipe.model_dump()
    asked["loss"] = {name: weight for name, weight in recipe.loss.items() if weight}
    if recipe.schedule == "one_cycle":
        asked["warmup"] = 0.0
    wrong = [
        f"{key} is {value!r}, not {asked[key]!r}"
        for key, value in live.items()
        if not _same(value, asked[key])
    ]
    if wrong:
        raise TrialError(f"sampled values did not reach the training: {'; '.join(wrong)}")


def _same(value: Any, asked: Any) -> bool:
    if isinstance(value, float) and isinstance(asked, int | float):
        return abs(value - asked) <= 1e-6 * max(1e-12, abs(asked))
    return bool(value == asked)
