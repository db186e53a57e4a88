"""Validation batches: whole images, masks measured at their native size."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Dataset

from raysearch.config import Recipe
from raysearch.data.augmentation.classification import for_evaluation
from raysearch.data.batch import as_tensor
from raysearch.data.cache import Cache
from raysearch.data.dataset import Data
from raysearch.data.loading import one_thread
from raysearch.data.resize import by_fours, fitted, resize_image, resize_mask

STRIDE = 32


@dataclass(frozen=True)
class ValidationBatch:
    """Segmented images of one native size.

    Attributes:
        images: uint8 or float32 (N, C, h, w), resized, then padded at the right and below by
            mirroring.
        labels: uint8 (N, h, w), masks like the images; padding has the ignore index.
        masks: uint8 (N, H, W), at native size.
        size: (height, width) of an image before padding.
        indices: positions in the cache.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor
    size: tuple[int, int]
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def pin_memory(self) -> "ValidationBatch":
        return replace(
            self,
            images=self.images.pin_memory(),
            labels=self.labels.pin_memory(),
            masks=self.masks.pin_memory(),
        )

    def targets(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Return labels as int64 (N, h, w) for logits of a shape (N, K, h, w)."""
        if tuple(self.labels.shape[-2:]) != tuple(shape[-2:]):
            raise ValueError(f"logits are {tuple(shape)}, images {tuple(self.images.shape)}")
        return self.labels.to(device, non_blocking=True).long()

    def native(self, logits: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield for each image its position, logits (1, K, H, W) at native size, mask (H, W)."""
        height, width = self.size
        for index, one, mask in zip(self.indices, logits, self.masks, strict=True):
            inside = one[None, :, :height, :width].float()
            if mask.shape != self.size:
                inside = interpolate(inside, mask.shape, mode="bilinear", align_corners=False)
            yield index, inside, mask


@dataclass(frozen=True)
class LabelledBatch:
    """Classified images.

    Attributes:
        images: uint8 or float32 (N, C, S, S), the middle of each image.
        labels: int64 (N,), class ids.
        indices: positions in the cache.
    """

    images: Tensor
    labels: Tensor
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def pin_memory(self) -> "LabelledBatch":
        return replace(self, images=self.images.pin_memory())

    def targets(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Return labels (N,) for logits of a shape (N, K)."""
        return self.labels.to(device, non_blocking=True)

    def native(self, logits: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield for each image its position, logits (1, K) and label ()."""
        yield from zip(self.indices, logits.float().split(1), self.labels, strict=True)


class LabelledSet(Dataset[LabelledBatch]):
    """One item is a whole batch of classified images."""

    def __init__(
        self, cache: Cache, indices: Sequence[int], image_size: int, batch_size: int
    ) -> None:
        self.cache, self.image_size = cache, image_size
        places = range(0, len(indices), batch_size)
        self.batches = [tuple(indices[first : first + batch_size]) for first in places]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> LabelledBatch:
        indices = self.batches[number]
        images = [
            as_tensor(for_evaluation(self.cache.image(index), self.image_size)) for index in indices
        ]
        labels = torch.tensor([self.cache.label(index) for index in indices])
        return LabelledBatch(torch.stack(images), labels, indices)


class ValidationSet(Dataset[ValidationBatch]):
    """One item is a whole batch: images of one native size, as many as fit."""

    def __init__(
        self,
        cache: Cache,
        indices: Sequence[int],
        image_size: int | None,
        batch_size: int,
        pixels: int,
        stride: int = STRIDE,
    ) -> None:
        self.cache, self.image_size, self.stride = cache, image_size, stride
        by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index in indices:
            by_shape[cache.shape(index)].append(index)
        self.batches: list[tuple[tuple[int, int], tuple[int, ...]]] = []
        for shape, same in sorted(by_shape.items()):
            height, width = fitted(shape, image_size)
            count = min(batch_size, max(1, pixels // (height * width)))
            places = range(0, len(same), count)
            self.batches += [(shape, tuple(same[first : first + count])) for first in places]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> ValidationBatch:
        shape, indices = self.batches[number]
        size = fitted(shape, self.image_size)
        below, right = (-side % self.stride for side in size)
        images, labels = [], []
        for index in indices:
            image = prepared(self.cache.image(index), size, self.stride)
            label = resize_mask(self.cache.mask(index), size)
            images.append(as_tensor(image))
            labels.append(
                np.pad(label, ((0, below), (0, right)), constant_values=self.cache.ignore_index)
            )
        return ValidationBatch(
            torch.stack(images),
            torch.from_numpy(np.stack(labels)),
            torch.from_numpy(np.stack([self.cache.mask(index) for index in indices])),
            size,
            indices,
        )


def validation_batches(
    data: Data,
    recipe: Recipe,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
    split: str = "val",
) -> DataLoader[Any]:
    """Return one rank's batches of a split: a `ValidationBatch` or a `LabelledBatch` each.

    Over all ranks every image comes exactly once.
    A batch holds no more pixels than a rank's training batch, so that it fits where that one does.
    """
    indices = data.indices(split)[rank::world]
    size = max(1, recipe.batch_size // (world * recipe.accumulation))
    pixels = size * recipe.crop_size**2
    images: Dataset[Any]
    if data.cache.segmented:
        images = ValidationSet(data.cache, indices, recipe.image_size, size, pixels)
    else:
        images = LabelledSet(data.cache, indices, recipe.image_size or 224, size)
    cv2.setNumThreads(0)
    return DataLoader(
        images,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        worker_init_fn=one_thread,
        generator=torch.Generator(),
    )


def prepared(image: np.ndarray, size: tuple[int, int], stride: int = STRIDE) -> np.ndarray:
    """Resize (H, W, C) to a height and width, then pad at the right and below by mirroring.

    Both sides become multiples of the stride.
    """
    image = resize_image(image, size)
    below, right = (-side % stride for side in size)
    if not below and not right:
        return image
    return by_fours(
        lambda part: cv2.copyMakeBorder(part, 0, below, 0, right, cv2.BORDER_REFLECT_101), image
    )
