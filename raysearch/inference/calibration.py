"""Whether probabilities mean what they say, and the temperature that makes them say it.

One temperature divides all logits (Guo et al. 2017, https://arxiv.org/abs/1706.04599). It is found
by minimising the negative log-likelihood of validation labels.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import nll_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from raysearch.inference.probabilities import as_logits

BINS = 15
COOLEST, HOTTEST = 0.1, 10.0
TOLERANCE = 1e-3
GOLDEN = (math.sqrt(5) - 1) / 2


def negative_log_likelihood(probabilities: Tensor, target: Tensor) -> float:
    """Return the mean over (P, K) probabilities and (P,) class ids; 0 of none."""
    if not len(target):
        return 0.0
    return nll_loss(as_logits(probabilities), target).item()


def calibration_error(probabilities: Tensor, target: Tensor) -> float:
    """Return the expected calibration error over 15 bins of the likeliest class's probability.

    Args:
        probabilities: (P, K).
        target: (P,).
    """
    if not len(target):
        return 0.0
    error: Tensor = multiclass_calibration_error(
        probabilities, target, probabilities.shape[1], n_bins=BINS
    )
    return error.item()


def reliability(probabilities: Tensor, target: Tensor) -> list[list[float]]:
    """Return a row for each of the bins of `calibration_error` that any rows fall into.

    Args:
        probabilities: (P, K).
        target: (P,).

    Returns:
        Mean probability of the likeliest class, share of the rows where it is right, and share of
        all rows.
    """
    sure, likeliest = probabilities.max(1)
    bins = (sure * BINS).ceil().long().clamp(1, BINS) - 1
    count = torch.bincount(bins, minlength=BINS).double()
    right = torch.bincount(bins, (likeliest == target).double(), BINS)
    total = torch.bincount(bins, sure.double(), BINS)
    rows = torch.stack([total / count, right / count, count / max(1, len(sure))], 1)
    found: list[list[float]] = rows[count > 0].tolist()
    return found


def best_temperature(at: Callable[[float], Tensor], target: Tensor) -> float:
    """Return the temperature of the least negative log-likelihood.

    Args:
        at: probabilities (P, K) at a temperature.
        target: (P,).
    """

    def loss(logarithm: float) -> float:
        return negative_log_likelihood(at(math.exp(logarithm)), target)

    return math.exp(golden_section(loss, math.log(COOLEST), math.log(HOTTEST)))


def golden_section(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function with one minimum between low and high has it."""
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > TOLERANCE:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2


def held_out_gain(
    at: Callable[[float, Tensor], Tensor], target: Tensor, group: Tensor
) -> tuple[float, float]:
    """Return the best temperature, and what it gains in negative log-likelihood where it was not
    chosen: of each half of the images by the temperature of the other half.

    Args:
        at: probabilities (P', K) at a temperature, of the rows that a mask (P,) names.
        target: (P,).
        group: (P,) the image that each row lies in.
    """
    gains, halves = [], (group % 2 == 0, group % 2 == 1)
    for fitted, judged in (halves, halves[::-1]):
        if not fitted.any() or not judged.any():
            return 1.0, 0.0
        temperature = best_temperature(lambda t, rows=fitted: at(t, rows), target[fitted])  # type: ignore[misc]
        plain, warm = (
            negative_log_likelihood(at(t, judged), target[judged]) for t in (1.0, temperature)
        )
        gains.append(plain - warm)
    everything = torch.ones_like(target, dtype=torch.bool)
    chosen = best_temperature(lambda t: at(t, everything), target)
    return chosen, sum(gains) / 2
