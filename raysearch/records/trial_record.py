"""What is known of one trial, and what its history comes to."""

import math
from dataclasses import dataclass, field
from typing import Any

from raysearch.config import Objective, Recipe

STATES = ("completed", "pruned", "stopped", "failed", "running")


@dataclass(frozen=True)
class TrialRecord:
    """All that is known of one trial. Its number is Optuna's, and its identity everywhere.

    Attributes:
        state: one of `STATES`; "running" until its end is written.
        value: the best objective of its epochs; None before the first and for a failed trial.
        seconds: time in training, validation and waiting for data, over all its epochs.
        reason: why it ended, such as "max epochs", "asha" or "out of memory".
        parameters: of the network; None before the first epoch.
        collapsed: whether its best epoch predicts one class alone.
        history: one mapping an epoch, in order.
    """

    number: int
    recipe: Recipe
    state: str = "running"
    value: float | None = None
    best_epoch: int | None = None
    epochs: int = 0
    seconds: float = 0.0
    reason: str = ""
    parameters: int | None = None
    collapsed: bool = False
    history: list[dict[str, Any]] = field(default_factory=list, repr=False)

    @property
    def best_metrics(self) -> dict[str, Any]:
        """The metrics of the best epoch; empty before the first."""
        return next((m for m in self.history if m["epoch"] == self.best_epoch), {})

    @property
    def gpu_hours(self) -> float | None:
        """GPUs reserved times hours held; None where no GPU was."""
        return next((m["gpu_hours"] for m in reversed(self.history) if "gpu_hours" in m), None)

    @property
    def name(self) -> str:
        return f"{self.number:04d} {self.recipe.architecture}"


def result(history: list[dict[str, Any]], objective: Objective) -> dict[str, Any]:
    """What an ended trial's history comes to: its best epoch, and what it took."""
    best: dict[str, Any] = {}
    for metrics in history:
        value = metrics.get(objective.metric, math.nan)
        if math.isfinite(value) and objective.better(value, best.get(objective.metric)):
            best = metrics
    return {
        "value": best.get(objective.metric),
        "best_epoch": best.get("epoch"),
        "collapsed": bool(best.get("collapsed", False)),
        **_spent(history),
    }


def so_far(history: list[dict[str, Any]]) -> dict[str, Any]:
    """A running trial's result, as each line of its history keeps it."""
    last: dict[str, Any] = history[-1] if history else {}
    value = last.get("best")
    return {"value": value, "best_epoch": last.get("best_epoch"), **_spent(history)}


def _spent(history: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "epochs": len(history),
        "seconds": sum(epoch_seconds(metrics) for metrics in history),
        "parameters": history[-1].get("parameters") if history else None,
    }


def epoch_seconds(metrics: dict[str, Any]) -> float:
    """Return the seconds that an epoch took: training, validation and waiting for data."""
    return sum(value for key, value in metrics.items() if key.endswith("_seconds"))
