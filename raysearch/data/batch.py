"""What a loader hands to the training: images, what they show, and how sure that is."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Batch(NamedTuple):
    """Images with their targets.

    images: (N, C, h, w), uint8 where the data set is, else float32.
    targets: class ids, uint8 (N, h, w) of pixels or int64 (N,) of whole images.
    weights: uint8 (N, h, w), 255 where a pixel's class is sure; None where nothing is said.
    """

    images: Tensor
    targets: Tensor
    weights: Tensor | None = None

    @property
    def size(self) -> int:
        return len(self.images)

    def tensor_split(self, parts: int) -> list[Self]:
        """Return equally many images in each part, as far as the number can be divided."""
        split = [None if t is None else t.tensor_split(parts) for t in self]
        return [type(self)(*(None if s is None else s[n] for s in split)) for n in range(parts)]  # type: ignore[arg-type]


def as_tensor(image: NDArray[np.generic]) -> Tensor:
    """Return an image (H, W, C) as (C, H, W): uint8 as it is, any other number as float32."""
    if image.dtype != np.uint8:
        image = image.astype(np.float32, copy=False)
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def collate(items: Sequence[Batch]) -> Batch:
    """Stack images of one size, each (C, h, w) with its target."""
    weights = [item.weights for item in items if item.weights is not None]
    return Batch(
        torch.stack([item.images for item in items]),
        torch.stack([item.targets for item in items]),
        torch.stack(weights) if weights else None,
    )
