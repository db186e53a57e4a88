"""Resize images and masks alike in training and validation."""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]


def fitted(shape: Sequence[int], long_side: int | None) -> tuple[int, int]:
    """Return (height, width) of a shape (H, W, ...) with the longer one equal to long_side.

    None keeps both.
    """
    height, width = shape[:2]
    if long_side is None:
        return height, width
    scale = long_side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_image(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize (H, W, C) to a height and width; areas are averaged where it shrinks."""
    height, width = size
    if image.shape[:2] == size:
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return by_fours(lambda part: cv2.resize(part, (width, height), interpolation=how), image)


def resize_mask(mask: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize (H, W) to a height and width by nearest pixels; no id arises that was not there."""
    if mask.shape == size:
        return mask
    resized: Pixels = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return resized


def by_fours(function: Callable[[Any], Any], image: Pixels) -> Pixels:
    """Apply an OpenCV function that takes at most four bands to an image of any number."""
    parts = [
        function(np.ascontiguousarray(image[..., first : first + 4]))
        for first in range(0, image.shape[2], 4)
    ]
    parts = [part if part.ndim == 3 else part[..., None] for part in parts]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
