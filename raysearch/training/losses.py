"""Losses by name, their weighted sum, and the boundary head's term.

Every term takes logits (N, K, H, W) and a target (N, H, W) of class ids, leaves pixels of the
ignore index out, and is zero (not NaN) where a batch has no other pixels. Cross-entropy and focal
loss also take logits (N, K) of whole images, with ids (N,) or soft labels (N, K) that sum to one,
and weights of the shape of the ids. Dice, Tversky and the boundary terms compare regions and count
every labelled pixel alike, but for those of weight 0, which no term sees. A new term is a function
and an entry of TERMS.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raysearch.config import Recipe, Task
from raysearch.errors import ConfigError, closest
from raysearch.models import Output

NEVER = -100  # The ignore index of whole images: all of them are labelled, and 255 may be a class.


class LossValues(NamedTuple):
    """Scalars: total = semantic + boundary_weight * boundary (0 without a boundary head)."""

    total: Tensor
    semantic: Tensor
    boundary: Tensor


class CrossEntropy(nn.Module):
    """Cross-entropy, weighted by class where class_weights (K,) are given, and by pixel.

    The mean is divided by the weights in it (a pixel's times its true class's), as torch does for
    class weights. A soft label's class weight is the mean over its shares.
    """

    class_weights: Tensor | None

    def __init__(
        self, ignore_index: int, label_smoothing: float, class_weights: Tensor | None
    ) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weights", class_weights)

    def forward(self, logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        loss = F.cross_entropy(
            logits,
            target,
            self.class_weights,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction="none",
        )
        share = self._share(logits, target)
        if weights is not None:
            loss, share = loss * weights, share * weights
        return loss.sum() / share.sum().clamp_min(torch.finfo(logits.dtype).tiny)

    def _share(self, logits: Tensor, target: Tensor) -> Tensor:
        """What each pixel or image counts in the mean, before its own weight."""
        if target.is_floating_point():
            return target.sum(1) if self.class_weights is None else target @ self.class_weights
        valid = target != self.ignore_index
        if self.class_weights is None:
            return valid.to(logits.dtype)
        return self.class_weights[target * valid] * valid


class Focal(nn.Module):
    """Focal loss over softmax probabilities, averaged over pixels (by their weights, if any).

    -a_t (1 - p_t)^gamma log(p_t), with p_t the probability of the true class and a_t = alpha where
    that is a foreground class, 1 - alpha where it is the background (class 0). After Lin et al.,
    https://arxiv.org/abs/1708.02002, equation 5. With one sigmoid for each class instead, a pixel
    would carry alpha and 1 - alpha at once and alpha would hardly tell the classes apart.

    A soft label gives the mean of that over its shares. Without a `background` (whole images),
    a_t = alpha for every class.
    """

    def __init__(
        self, ignore_index: int, alpha: float, gamma: float, background: bool = True
    ) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.alpha = alpha
        self.gamma = gamma
        self.background = background

    def forward(self, logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        log_p = F.log_softmax(logits, dim=1)
        if target.is_floating_point():
            classes = torch.arange(logits.shape[1], device=logits.device).expand_as(target)
            loss = (target * self._each(log_p, classes)).sum(1)
            share = torch.ones_like(loss)
        else:
            valid = target != self.ignore_index
            classes = target * valid
            log_p = log_p.gather(1, classes.unsqueeze(1)).squeeze(1)
            loss = self._each(log_p, classes) * valid
            share = valid.to(loss.dtype)
        if weights is not None:
            loss, share = loss * weights, share * weights
        return loss.sum() / share.sum().clamp_min(torch.finfo(loss.dtype).tiny)

    def _each(self, log_p: Tensor, classes: Tensor) -> Tensor:
        """Return the loss of each true class, from the logarithm of its probability."""
        # The slope of x ** gamma at 0 is infinite where gamma < 1, so x stays above 0.
        rest = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).eps)
        ground = 1 - self.alpha if self.background else self.alpha
        alpha = torch.where(classes > 0, self.alpha, ground)
        return -alpha * rest.pow(self.gamma) * log_p


class BoundaryF1(nn.Module):
    """One minus the F1 of the class boundaries that the probabilities draw.

    Bokhovkin and Burnaev, https://arxiv.org/abs/1905.07852: a class's boundary
    is what a max-pooling of 1 - probability (window `edge`, theta_0) adds to it; a boundary pixel
    is right within a window `reach` (theta) of the other boundary. The F1 is averaged over each
    image's classes that have a labelled boundary; ignored pixels make none and have none. It does
    not say which class is inside, so it stands beside another term.
    """

    def __init__(self, ignore_index: int, edge: int = 3, reach: int = 5) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.edge = edge
        self.reach = reach

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        valid = target != self.ignore_index
        one_hot = F.one_hot(target * valid, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
        valid = valid.unsqueeze(1)
        labelled = self._boundary(one_hot, valid)
        drawn = self._boundary(logits.softmax(1), valid)
        precision = _share_within(drawn, _widened(labelled, self.reach))
        recall = _share_within(labelled, _widened(drawn, self.reach))
        tiny = torch.finfo(logits.dtype).eps
        f1 = 2 * precision * recall / (precision + recall).clamp_min(tiny)
        exists = labelled.sum((2, 3)) > 0
        return ((1 - f1) * exists).sum() / exists.sum().clamp_min(1)

    def _boundary(self, shares: Tensor, valid: Tensor) -> Tensor:
        """Return the boundary (N, K, H, W) of shares (N, K, H, W), inside each class."""
        rest = (1 - shares) * valid
        return (_widened(rest, self.edge) - rest) * valid


def _widened(maps: Tensor, window: int) -> Tensor:
    """Return the greatest in a window around each pixel, by rows and then by columns."""
    half = window // 2
    rows = F.max_pool2d(maps, (1, window), stride=1, padding=(0, half))
    return F.max_pool2d(rows, (window, 1), stride=1, padding=(half, 0))


def _share_within(boundary: Tensor, reach: Tensor) -> Tensor:
    """Return the share (N, K) of a boundary that lies within reach of another."""
    tiny = torch.finfo(boundary.dtype).eps
    return (boundary * reach).sum((2, 3)) / boundary.sum((2, 3)).clamp_min(tiny)


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
    return CrossEntropy(_ignored(task), recipe.label_smoothing, weights)


def _focal(recipe: Recipe, task: Task, class_frequency: Tensor | None) -> nn.Module:
    return Focal(_ignored(task), recipe.focal_alpha, recipe.focal_gamma, background=task.segments)


def _ignored(task: Task) -> int:
    return task.ignore_index if task.segments else NEVER


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


def _boundary(recipe: Recipe, task: Task, class_frequency: Tensor | None) -> nn.Module:
    return BoundaryF1(task.ignore_index)


class Term(NamedTuple):
    """How a term is built, and where its module keeps what the recipe's fields said.

    weighs: its module takes weights of pixels as a third argument.
    kinds: of tasks that it fits.
    """

    build: Callable[[Recipe, Task, Tensor | None], nn.Module]
    live: dict[str, str]
    weighs: bool = False
    kinds: tuple[str, ...] = ("segmentation",)


EITHER = ("segmentation", "classification")

TERMS = {
    "cross_entropy": Term(
        _cross_entropy, {"label_smoothing": "label_smoothing"}, weighs=True, kinds=EITHER
    ),
    "focal": Term(
        _focal, {"focal_alpha": "alpha", "focal_gamma": "gamma"}, weighs=True, kinds=EITHER
    ),
    "dice": Term(_dice, {}),
    "tversky": Term(_tversky, {"tversky_alpha": "alpha", "tversky_beta": "beta"}),
    "boundary": Term(_boundary, {}),
}


class Loss(nn.Module):
    """The weighted sum of terms on the semantic head, plus the boundary head's weighted term.

    boundary: None where the task has no boundary head.
    """

    def __init__(
        self,
        terms: dict[str, nn.Module],
        weights: dict[str, float],
        boundary: Boundary | None,
        boundary_weight: float,
        ignore_index: int,
    ) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(terms)
        self.weights = weights
        self.boundary = boundary
        self.boundary_weight = boundary_weight
        self.ignore_index = ignore_index

    def forward(self, output: Output, ids: Tensor, weights: Tensor | None = None) -> LossValues:
        """Compare an output with its labels, in float32.

        Args:
            ids: int64 class ids (N, H, W) or (N,), or soft labels (N, K) of whole images.
            weights: of pixels, (N, H, W), at least 0; pixels of weight 0 are left out everywhere.
        """
        with torch.autocast(ids.device.type, enabled=False):
            logits = output.semantic.float()
            if weights is not None:
                weights = weights.float()
                ids = ids.masked_fill(weights == 0, self.ignore_index)
            semantic = logits.new_zeros(())
            for name, term in self.terms.items():
                weighing = (weights,) if TERMS[name].weighs else ()
                semantic = semantic + self.weights[name] * term(logits, ids, *weighing)
            if self.boundary is None or output.boundary is None:
                return LossValues(semantic, semantic, logits.new_zeros(()))
            boundary = self.boundary(output.boundary.float(), ids)
            return LossValues(semantic + self.boundary_weight * boundary, semantic, boundary)

    def live_values(self) -> dict[str, object]:
        """Return what the loss computes with now, by the names of the recipe's fields.

        A field of a term or of a head that there is not is left out.
        """
        values: dict[str, object] = {"loss": dict(self.weights)}
        if self.boundary is not None:
            values["boundary_weight"] = self.boundary_weight
            values["boundary_positive_weight"] = self.boundary.positive_weight
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
        class_frequency: (K,) pixels (or images) of each class in the training split, or their
            shares; needed for class_weights "frequency".

    Raises:
        ConfigError: a term that is unknown or does not fit the task, or frequencies that are
            needed and missing.
    """
    fitting = [name for name, term in TERMS.items() if task.kind in term.kinds]
    for name in recipe.loss:
        if name not in TERMS:
            raise ConfigError(f"loss term '{name}' is unknown. {closest(name, fitting)}")
        if name not in fitting:
            raise ConfigError(
                f"loss term '{name}' is for {' or '.join(TERMS[name].kinds)}; a study whose task "
                f"is {task.kind} can use {', '.join(fitting)}"
            )
    weights = {name: weight for name, weight in recipe.loss.items() if weight}
    terms = {name: TERMS[name].build(recipe, task, class_frequency) for name in weights}
    boundary = None
    if task.segments:
        boundary = Boundary(task.ignore_index, recipe.boundary_positive_weight)
    return Loss(terms, weights, boundary, recipe.boundary_weight, _ignored(task))
