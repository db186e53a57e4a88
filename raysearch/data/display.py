"""Any image as a picture for the eye."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def for_display(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an image (H, W, C) as colours (H, W, 3).

    Three bands of 8 bits stay as they are. Of many bands, those that satellites have for red,
    green and blue are taken (coastal, blue, green, red, ...; blue, green, red, near infrared where
    there are four), stretched from the 2nd to the 98th percentile.
    """
    bands = image.shape[2]
    if image.dtype == np.uint8 and bands in (1, 3):
        return image if bands == 3 else image.repeat(3, axis=2)
    chosen = (0, 0, 0) if bands < 3 else (0, 1, 2) if bands == 3 else (2, 1, 0)
    picture = image[..., (3, 2, 1) if bands > 4 else chosen].astype(np.float32)
    low, high = np.percentile(picture, (2, 98), axis=(0, 1))
    stretched = (picture - low) / np.maximum(high - low, 1e-6)
    return (255 * stretched.clip(0, 1)).astype(np.uint8)
