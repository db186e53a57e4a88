"""Count, mean and variance of the values in each band: of one image, and of many together.

Moments are float64 arrays (3, C), or (N, 3, C) for N images.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Moments = NDArray[np.float64]


def moments(image: NDArray[Any], gaps: NDArray[np.bool_] | None = None) -> Moments:
    """Return the moments of an image (H, W, C), without the values in its gaps (H, W, C)."""
    bands = range(image.shape[2])
    return np.array(
        [_of_band(image[..., b], None if gaps is None else ~gaps[..., b]) for b in bands]
    ).T


def combined(parts: Moments) -> Moments:
    """Return the moments (3, C) of all values together; 0 for a band that has none."""
    counts, means, variances = parts.transpose(1, 0, 2)
    count = counts.sum(axis=0)
    mean = (counts * means).sum(axis=0) / np.maximum(count, 1)
    squares = counts * (variances + (means - mean) ** 2)
    return np.stack([count, mean, squares.sum(axis=0) / np.maximum(count, 1)])


def _of_band(band: NDArray[Any], known: NDArray[np.bool_] | None) -> tuple[float, float, float]:
    """Take the variance about a value near the mean: about 0 its digits would cancel."""
    mask = None if known is None else known.astype(np.uint8)
    count = band.size if known is None else int(known.sum())
    near = np.float32(cv2.mean(np.ascontiguousarray(band), mask=mask)[0])
    mean, deviation = cv2.meanStdDev(band.astype(np.float32) - near, mask=mask)
    return count, float(near) + float(mean[0, 0]), float(deviation[0, 0]) ** 2
