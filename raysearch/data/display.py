"""Any image as a picture for the eye, and the colours of classes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Okabe and Ito (https://jfly.uni-koeln.de/color/), then the rest of Tol's muted scheme
# (https://sronpersonalpages.nl/~pault/), for class 1 onwards. The background has no colour.
BACKGROUND = "#f2f2f2"
COLOURS = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7",
    "#882255", "#44aa99", "#999933", "#332288", "#117733", "#cc6677", "#aa4499",
)  # fmt: skip


def class_colours(count: int) -> NDArray[np.float64]:
    """Return the colours of classes, (count, 3) in 0..1; class 0 is the background, light grey."""
    foreground = [COLOURS[index % len(COLOURS)] for index in range(count - 1)]
    codes = [bytes.fromhex(colour[1:]) for colour in (BACKGROUND, *foreground)]
    return np.array([list(code) for code in codes])[:count] / 255


def for_display(image: NDArray[Any], like: NDArray[Any] | None = None) -> NDArray[np.uint8]:
    """Return an image (H, W, C) as colours (H, W, 3).

    Three bands of 8 bits stay as they are. Of many bands, those that satellites have for red,
    green and blue are taken (coastal, blue, green, red, ...; blue, green, red, near infrared where
    there are four), stretched from the 2nd to the 98th percentile.

    Args:
        like: an image (h, w, C) whose percentiles are taken, where this one is a part of it.
    """
    bands = image.shape[2]
    if image.dtype == np.uint8 and bands in (1, 3):
        return image if bands == 3 else image.repeat(3, axis=2)
    chosen = (0, 0, 0) if bands < 3 else (0, 1, 2) if bands == 3 else (2, 1, 0)
    chosen = (3, 2, 1) if bands > 4 else chosen
    picture = image[..., chosen].astype(np.float32)
    spread = picture if like is None else like[..., chosen].astype(np.float32)
    low, high = np.percentile(spread, (2, 98), axis=(0, 1))
    stretched = (picture - low) / np.maximum(high - low, 1e-6)
    return (255 * stretched.clip(0, 1)).astype(np.uint8)
