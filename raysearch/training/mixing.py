"""MixUp and CutMix within a batch, with the draws of timm.

https://arxiv.org/abs/1710.09412 and https://arxiv.org/abs/1905.04899.

Whole images are mixed by timm itself and get soft labels. Masks cannot be averaged: MixUp of a
segmentation gives two parts, each a mask and its share of the loss, and CutMix pastes the box in
image, mask and weights alike. Each image's partner is the one at the same place from the end.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from raysearch.config import Recipe, Task


class Part(NamedTuple):
    """Labels of a mixed batch and their share of its loss; a batch's shares sum to one.

    ids: int64 (N, h, w) or (N,), or soft labels (N, K).
    weights: of pixels, (N, h, w).
    """

    share: float
    ids: Tensor
    weights: Tensor | None = None


class Mixed(NamedTuple):
    """Images (N, C, h, w) and their labels."""

    images: Tensor
    parts: tuple[Part, ...]


class Mixing:
    """Mixes the batches of a recipe; without alphas it hands them on untouched."""

    def __init__(self, recipe: Recipe, task: Task) -> None:
        self.task = task
        self.mixup: Any = None
        if recipe.mixup_alpha or recipe.cutmix_alpha:
            from timm.data.mixup import Mixup  # slow to import

            self.mixup = Mixup(
                recipe.mixup_alpha,
                recipe.cutmix_alpha,
                prob=recipe.mix_probability,
                label_smoothing=0.0,  # The loss smooths.
                num_classes=task.num_classes,
            )

    def __call__(
        self, images: Tensor, ids: Tensor, weights: Tensor | None, seed: Sequence[int]
    ) -> Mixed:
        """Mix a batch.

        Args:
            images: float (N, C, h, w), left as they are.
            ids: int64 (N, h, w) of a segmentation, (N,) of a classification.
            weights: of pixels, (N, h, w), or None.
            seed: what every random number comes from, such as (seed, epoch, step).
        """
        if self.mixup is None:
            return Mixed(images, (Part(1.0, ids, weights),))
        with _numpy_seeded(seed):
            if self.task.segments:
                return self._mix_masks(images, ids, weights)
            return self._mix_labels(images, ids)

    def _mix_labels(self, images: Tensor, ids: Tensor) -> Mixed:
        """Mix by timm, which takes pairs alone: of an odd number the last image stays."""
        images, pairs = images.clone(), len(images) // 2 * 2
        soft = F.one_hot(ids, self.task.num_classes).to(images.dtype)
        if pairs:
            images[:pairs], soft[:pairs] = self.mixup(images[:pairs], ids[:pairs])
        return Mixed(images, (Part(1.0, soft),))

    def _mix_masks(self, images: Tensor, ids: Tensor, weights: Tensor | None) -> Mixed:
        from timm.data.mixup import cutmix_bbox_and_lam

        share, cut = self.mixup._params_per_batch()
        if share == 1:
            return Mixed(images, (Part(1.0, ids, weights),))
        if cut:
            (top, bottom, left, right), _ = cutmix_bbox_and_lam(images.shape, share)
            box = (..., slice(top, bottom), slice(left, right))
            pasted = None if weights is None else _paste(weights, box)
            return Mixed(_paste(images, box), (Part(1.0, _paste(ids, box), pasted),))
        others = None if weights is None else weights.flip(0)
        own, partner = Part(share, ids, weights), Part(1 - share, ids.flip(0), others)
        return Mixed(torch.lerp(images.flip(0), images, share), (own, partner))

    def live_values(self) -> dict[str, float]:
        """Return what batches are mixed by now, by the names of the recipe's fields."""
        if self.mixup is None:
            return {"mixup_alpha": 0.0, "cutmix_alpha": 0.0}
        return {
            "mixup_alpha": self.mixup.mixup_alpha,
            "cutmix_alpha": self.mixup.cutmix_alpha,
            "mix_probability": self.mixup.mix_prob,
        }


def _paste(batch: Tensor, box: tuple[Any, ...]) -> Tensor:
    """Return a batch whose box is each one's partner's."""
    pasted = batch.clone()
    pasted[box] = batch.flip(0)[box]
    return pasted


@contextmanager
def _numpy_seeded(seed: Sequence[int]) -> Iterator[None]:
    """Seed numpy's global generator, which timm draws from, and give its state back after."""
    before = np.random.get_state()
    np.random.seed(np.random.SeedSequence(seed).generate_state(4))
    try:
        yield
    finally:
        np.random.set_state(before)
