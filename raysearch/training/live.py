"""Proof that what was sampled is what trains: live objects read back against the recipe."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch

from raysearch.config import Recipe
from raysearch.errors import TrialError
from raysearch.training.optimisation import Ema, Schedule


class HasLiveValues(Protocol):
    """A part that can say what it works with, by the names of the recipe."""

    def live_values(self) -> dict[str, Any]: ...


# Clipping, early stopping and the like are read from the recipe at the moment of their use.


def live_values(
    optimizer: torch.optim.Optimizer, schedule: Schedule, ema: Ema | None, *parts: HasLiveValues
) -> dict[str, Any]:
    """Return what a trial's parts work with now, by the names of the recipe."""
    encoder, head = optimizer.param_groups[0], optimizer.param_groups[-1]
    values = {
        "weight_decay": max(group["weight_decay"] for group in optimizer.param_groups),
        "warmup": schedule.warmup,
        "ema_decay": ema.decay if ema else 0.0,
    }
    if now := schedule.rate(schedule.steps):
        values["learning_rate"] = head["lr"] * schedule.learning_rate / now
        values["encoder_lr_ratio"] = encoder["lr"] / head["lr"]
    if schedule.frozen_steps and schedule.steps < schedule.frozen_steps:
        values["frozen_learning_rate"] = schedule.frozen_rate and head["lr"]
    for part in parts:
        values |= part.live_values()
    return values


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
