"""The optimizer, learning-rate schedules by name, and the moving average of the weights.

A schedule is a shape: the learning rate as a share of the recipe's, over the share of the trial's
own steps that is done. A trial of 5 epochs and one of 200 pass through the same shape.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from raysearch.config import Recipe
from raysearch.errors import ConfigError, closest
from raysearch.models import encoder_of

Shape = Callable[[float], float]


def build_optimizer(recipe: Recipe, network: nn.Module) -> torch.optim.AdamW:
    """Return AdamW (https://arxiv.org/abs/1711.05101) in up to four groups.

    Weight decay acts on the weights of convolutions and linear layers, not on norms and biases. The
    encoder's groups have `recipe.encoder_lr_ratio` of the learning rate of the others.
    """
    encoder = {id(p) for p in encoder_of(network).parameters()}
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = []
    for ratio, inside in ((recipe.encoder_lr_ratio, True), (1.0, False)):
        here = [p for p in trained if (id(p) in encoder) == inside]
        for decay, matrices in ((recipe.weight_decay, True), (0.0, False)):
            members = [p for p in here if (p.ndim > 1) == matrices]
            if members:
                groups.append({"params": members, "weight_decay": decay, "ratio": ratio})
    fused = all(p.device.type in ("cpu", "cuda") for p in trained)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=fused)


def frozen_epochs(recipe: Recipe) -> int:
    """Return how many epochs stage one takes, in which the encoder stands still."""
    return round(recipe.frozen * recipe.epochs)


class Schedule:
    """Sets the learning rate of every group of an optimizer before each of its steps.

    Call `step` after each optimizer step and `epoch` after each epoch.

    Args:
        total_steps: of the trial, stage one included.
        frozen_steps: of stage one, which has the constant `frozen_rate`; the warm-up and the shape
            begin after it.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        learning_rate: float,
        total_steps: int,
        warmup: float,
        shape: Shape,
        frozen_steps: int = 0,
        frozen_rate: float | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.frozen_steps, self.frozen_rate = frozen_steps, frozen_rate
        self.total_steps = max(1, total_steps - frozen_steps)
        self.warmup = warmup
        self.shape = shape
        self.steps = 0
        self._set()

    def rate(self, steps: int) -> float:
        """Return the learning rate for the step after `steps` others."""
        if steps < self.frozen_steps:
            return self.frozen_rate or self.learning_rate
        return self.learning_rate * self.factor(steps - self.frozen_steps)

    def factor(self, steps: int) -> float:
        """Return the share of the learning rate after `steps` others, stage one left out.

        The warm-up is linear and reaches 1 with its last step; the first step is above 0.
        """
        warmup_steps = self.warmup * self.total_steps
        ramp = min(1.0, (steps + 1) / warmup_steps) if warmup_steps > 0 else 1.0
        return ramp * self.shape(min(1.0, steps / self.total_steps))

    def step(self) -> None:
        """Set the learning rate for the next optimizer step."""
        self.steps += 1
        self._set()

    def epoch(self, value: float) -> None:
        """Take note of an epoch's validation metric (greater is better)."""

    def _set(self) -> None:
        rate = self.rate(self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("ratio", 1.0)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = int(state["steps"])
        self._set()


class PlateauSchedule(Schedule):
    """Halves the rate when the metric has not gained for `patience` epochs (after the warm-up)."""

    def __init__(self, *arguments: Any, patience: int, **named: Any) -> None:
        self.patience = patience
        self.best = -math.inf
        self.waited = 0
        self.scale = 1.0
        super().__init__(*arguments, **named)

    def factor(self, steps: int) -> float:
        return self.scale * super().factor(steps)

    def epoch(self, value: float) -> None:
        if value > self.best:
            self.best, self.waited = value, 0
        elif self.steps >= self.frozen_steps + self.warmup * self.total_steps:
            self.waited += 1
        if self.waited > self.patience:
            self.scale, self.waited = self.scale / 2, 0
        self._set()

    def state_dict(self) -> dict[str, Any]:
        own = {"best": self.best, "waited": self.waited, "scale": self.scale}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited, self.scale = state["best"], int(state["waited"]), state["scale"]
        super().load_state_dict(state)


def constant(warmup: float) -> Shape:
    """The full rate (plateau scales it from epoch to epoch)."""
    return lambda done: 1.0


def multistep(warmup: float) -> Shape:
    """Full rate to 50/200 of the steps, half of it to 100/200, then a tenth of that half.

    The schedule of the report on U-Nets for animals, whose warm-up takes 5/200.
    """
    return lambda done: 1.0 if done < 0.25 else 0.5 if done < 0.5 else 0.05


def cosine(warmup: float) -> Shape:
    """Half a cosine from the end of the warm-up to 0 (https://arxiv.org/abs/1608.03983)."""
    return lambda done: _half_cosine(max(0.0, done - warmup) / (1 - warmup))


def warm_restarts(warmup: float) -> Shape:
    """Three cosines, each twice as long as the one before (SGDR, https://arxiv.org/abs/1608.03983).

    They take 1/7, 2/7 and 4/7 of the steps after the warm-up.
    """
    cycles = ((0.0, 1 / 7), (1 / 7, 3 / 7), (3 / 7, 1.0))

    def shape(done: float) -> float:
        after = max(0.0, done - warmup) / (1 - warmup)
        start, end = next((c for c in cycles if after < c[1]), cycles[-1])
        return _half_cosine((after - start) / (end - start))

    return shape


ONE_CYCLE_RISE = 0.3


def one_cycle(warmup: float) -> Shape:
    """Rise from 1/25 by half a cosine over 30 % of the steps, then fall by another to 1/250000.

    Smith and Topin, https://arxiv.org/abs/1708.07120, with the numbers of torch's OneCycleLR. The
    rise is the warm-up.
    """

    def shape(done: float) -> float:
        if done < ONE_CYCLE_RISE:
            return 1 - (1 - 1 / 25) * _half_cosine(done / ONE_CYCLE_RISE)
        fall = _half_cosine((done - ONE_CYCLE_RISE) / (1 - ONE_CYCLE_RISE))
        return 1 / 250_000 + (1 - 1 / 250_000) * fall

    return shape


def _half_cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))


SHAPES: dict[str, Callable[[float], Shape]] = {
    "multistep": multistep,
    "cosine": cosine,
    "warm_restarts": warm_restarts,
    "one_cycle": one_cycle,
    "plateau": constant,
    "constant": constant,
}


def warmup_fraction(recipe: Recipe) -> float:
    """Return the share of a trial's epochs in which its learning rate still rises."""
    return ONE_CYCLE_RISE if recipe.schedule == "one_cycle" else recipe.warmup


def build_schedule(
    recipe: Recipe, optimizer: torch.optim.Optimizer, steps_per_epoch: int
) -> Schedule:
    """Build the schedule that a recipe names, over recipe.epochs epochs.

    Raises:
        ConfigError: there is none of that name.
    """
    name = recipe.schedule
    if name not in SHAPES:
        raise ConfigError(f"schedule '{name}' is unknown. {closest(name, SHAPES)}")
    warmup = 0.0 if name == "one_cycle" else recipe.warmup
    total_steps = steps_per_epoch * recipe.epochs
    stage = (steps_per_epoch * frozen_epochs(recipe), recipe.frozen_learning_rate)
    values = (optimizer, recipe.learning_rate, total_steps, warmup, SHAPES[name](warmup), *stage)
    if name == "plateau":
        return PlateauSchedule(*values, patience=max(1, recipe.epochs // 20))
    return Schedule(*values)


class Ema(AveragedModel):
    """Exponential moving average of a network's parameters and buffers, in `module`.

    The decay grows as (1 + n) / (10 + n) up to the one asked for, so that the average of a short
    trial is not still made of its first steps.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self.decay = decay

    def update(self, network: nn.Module) -> None:
        """Take in the network after an optimizer step."""
        updates = int(self.n_averaged)
        decay = min(self.decay, (1 + updates) / (10 + updates))
        self.multi_avg_fn = get_ema_multi_avg_fn(decay)
        self.update_parameters(network)
