"""Losses by name, their weighted sum, and the boundary term.

Every term takes logits (N, K, H, W) and a target (N, H, W) of class ids, leaves pixels of the
ignore index out, and is zero (not NaN) where a batch has no other pixels.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raysearch.config import Recipe, Task
from raysearch.errors import ConfigError, closest
from raysearch.models import Output


class LossValues(NamedTuple):
    """Scalars: total = semantic + boundary_weight * boundary."""

    total: Tensor
    semantic: Tensor
    boundary: Tensor


class CrossEntropy(nn.Module):
    """Cross-entropy, weighted by class where class_weights (K,) are given.

    The mean is divided by the weights of the pixels in it, as torch does.
    """

    class_weights: Tensor | None

    def __init__(
        self, ignore_index: int, label_smoothing: float, class_weights: Tensor | None
    ) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weights", class_weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        valid = target != self.ignore_index
        total = F.cross_entropy(
            logits,
            target,
            self.class_weights,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        weights = valid.to(logits.dtype)
        if self.class_weights is not None:
            weights = self.class_weights[target * valid] * valid
        return total / weights.sum().clamp_min(torch.finfo(logits.dtype).tiny)


class Focal(nn.Module):
    """Focal loss over softmax probabilities, averaged over pixels.

    -a_t (1 - p_t)^gamma log(p_t), with p_t the probability of the true class and a_t = alpha where
    that is a foreground class, 1 - alpha where it is the background (class 0). After Lin et al.,
    https://arxiv.org/abs/1708.02002, equation 5. With one sigmoid for each class instead, a pixel
    would carry alpha and 1 - alpha at once and alpha would hardly tell the classes apart.
    """

    def __init__(self, ignore_index: int, alpha: float, gamma: float) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        valid = target != self.ignore_index
        true_class = target * valid
        log_p = F.log_softmax(logits, dim=1).gather(1, true_class.unsqueeze(1)).squeeze(1)
        # The slope of x ** gamma at 0 is infinite where gamma < 1, so x stays above 0.
        rest = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).eps)
        alpha = torch.where(true_class > 0, self.alpha, 1 - self.alpha)
        loss = -alpha * rest.pow(self.gamma) * log_p * valid
        return loss.sum() / valid.sum().clamp_min(1)


class Boundary(nn.Module):
    """Binary cross-entropy of the boundary head on the edges of the mask.

    Edges are rare, so they weigh `positive_weight`; None balances each batch: the ratio of other
    pixels to edges in it, at least 1.
    """

    def __init__(self, ignore_index: int, positive_weight: float | None) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.positive_weight = positive_weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits (N, 1, H, W), target (N, H, W) of class ids."""
        valid = target != self.ignore_index
        edges = mask_edges(target, self.ignore_index).to(logits.dtype)
        pixels, positive = valid.sum(), edges.sum()
        if self.positive_weight is None:
            weight = ((pixels - positive) / positive.clamp_min(1)).clamp_min(1)
        else:
            weight = logits.new_tensor(self.positive_weight)
        loss = F.binary_cross_entropy_with_logits(
            logits.squeeze(1), edges, pos_weight=weight, reduction="none"
        )
        return (loss * valid).sum() / pixels.clamp_min(1)


def mask_edges(target: Tensor, ignore_index: int) -> Tensor:
    """Mark each pixel that has a left, right, upper or lower neighbour of another class.

    Ignored pixels are no edges and make none.

    Args:
        target: (N, H, W) class ids.

    Returns:
        (N, H, W) bool.
    """
    valid = target != ignore_index
    edges = torch.zeros_like(valid)
    for dim in (1, 2):
        length = target.shape[dim] - 1
        before, after = target.narrow(dim, 0, length), target.narrow(dim, 1, length)
        both = valid.narrow(dim, 0, length) & valid.narrow(dim, 1, length)
        change = (before != after) & both
        edges.narrow(dim, 0, length).logical_or_(change)
        edges.narrow(dim, 1, length).logical_or_(change)
    return edges


def median_frequency_weights(class_frequency: Tensor) -> Tensor:
    """Return median(f) / f_c for each class, and 1 for a class that never occurs.

    Median frequency balancing of Eigen and Fergus, https://arxiv.org/abs/1411.4734; the median is
    over the classes that occur.

    Args:
        class_frequency: (K,) pixels of each class in the training split, or their shares.
    """
    frequency = class_frequency.to(torch.float32)
    present = frequency > 0
    if not present.any():
        return torch.ones_like(frequency)
    weights = frequency[present].quantile(0.5) / frequency.clamp_min(torch.finfo().tiny)
    return torch.where(present, weights, 1.0)


def _cross_entropy(recipe: Recipe, task: Task, class_frequency: Tensor | None) -> nn.Module:
    weights = None
    if recipe.class_weights == "frequency":
        if class_frequency is None:
            raise ConfigError(
                "class_weights 'frequency' needs the class frequencies of the training split; "
                "pass class_frequency, or set class_weights: none"
            )
        weights = median_frequency_weights(class_frequency)
    return CrossEntropy(task.ignore_index, recipe.label_smoothing, weights)


def _focal(recipe: Recipe, task: Task, class_frequency: Tensor | None) -> nn.Module:
    return Focal(task.ignore_index, recipe.focal_alpha, recipe.focal_gamma)


def _dice(recipe: Recipe, task: Task, class_frequency: Tensor | None) -> nn.Module:
    from segmentation_models_pytorch.losses import DiceLoss

    return DiceLoss("multiclass", smooth=1.0, ignore_index=task.ignore_index)


def _tversky(recipe: Recipe, task: Task, class_frequency: Tensor | None) -> nn.Module:
    from segmentation_models_pytorch.losses import TverskyLoss

    return TverskyLoss(
        "multiclass",
        smooth=1.0,
        ignore_index=task.ignore_index,
        alpha=recipe.tversky_alpha,
        beta=recipe.tversky_beta,
    )


class Term(NamedTuple):
    """How a term is built, and where its module keeps what the recipe's fields said."""

    build: Callable[[Recipe, Task, Tensor | None], nn.Module]
    live: dict[str, str]


TERMS = {
    "cross_entropy": Term(_cross_entropy, {"label_smoothing": "label_smoothing"}),
    "focal": Term(_focal, {"focal_alpha": "alpha", "focal_gamma": "gamma"}),
    "dice": Term(_dice, {}),
    "tversky": Term(_tversky, {"tversky_alpha": "alpha", "tversky_beta": "beta"}),
}


class Loss(nn.Module):
    """The weighted sum of terms on the semantic head, plus the weighted boundary term."""

    def __init__(
        self,
        terms: dict[str, nn.Module],
        weights: dict[str, float],
        boundary: Boundary,
        boundary_weight: float,
    ) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(terms)
        self.weights = weights
        self.boundary = boundary
        self.boundary_weight = boundary_weight

    def forward(self, output: Output, target: Tensor) -> LossValues:
        """Compare an output with a target (N, H, W) of int64 class ids, in float32."""
        with torch.autocast(target.device.type, enabled=False):
            logits = output.semantic.float()
            semantic = logits.new_zeros(())
            for name, term in self.terms.items():
                semantic = semantic + self.weights[name] * term(logits, target)
            boundary = self.boundary(output.boundary.float(), target)
            return LossValues(semantic + self.boundary_weight * boundary, semantic, boundary)

    def live_values(self) -> dict[str, object]:
        """Return what the loss computes with now, by the names of the recipe's fields.

        A field of a term that the loss does not have is left out.
        """
        values: dict[str, object] = {
            "loss": dict(self.weights),
            "boundary_weight": self.boundary_weight,
            "boundary_positive_weight": self.boundary.positive_weight,
        }
        for name, term in self.terms.items():
            for field, attribute in TERMS[name].live.items():
                values[field] = getattr(term, attribute)
            if isinstance(term, CrossEntropy):
                weighted = term.class_weights is not None
                values["class_weights"] = "frequency" if weighted else "none"
        return values


def build_loss(recipe: Recipe, task: Task, class_frequency: Tensor | None = None) -> Loss:
    """Build the loss of a recipe; terms whose weight is 0 are left out.

    Args:
        class_frequency: (K,) pixels of each class in the training split, or their shares; needed
            for class_weights "frequency".

    Raises:
        ConfigError: an unknown term, or frequencies that are needed and missing.
    """
    weights = {name: weight for name, weight in recipe.loss.items() if weight}
    for name in recipe.loss:
        if name not in TERMS:
            raise ConfigError(f"loss term '{name}' is unknown. {closest(name, TERMS)}")
    terms = {name: TERMS[name].build(recipe, task, class_frequency) for name in weights}
    boundary = Boundary(task.ignore_index, recipe.boundary_positive_weight)
    return Loss(terms, weights, boundary, recipe.boundary_weight)
