"""Clean a mask: regions too small to be an object, and holes too small to be background."""

from collections.abc import Mapping
from itertools import product
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.errors import ConfigError, closest

Mask = NDArray[np.uint8]

SMALL, HOLES = "small_regions", "holes"
SHARES = (0.0, 0.0005, 0.002, 0.01)
# What is tried on validation images; the first leaves masks as they are.
CHOICES: tuple[dict[str, float], ...] = tuple(
    {name: share for name, share in ((SMALL, small), (HOLES, holes)) if share}
    for small, holes in product(SHARES, SHARES)
)


def postprocess(classes: Mask, how: Mapping[str, Any]) -> Mask:
    """Return a mask (H, W) of class ids, cleaned.

    Args:
        how: "small_regions": connected regions of any class but the background (0) that cover less
            than this share of the image; "holes": regions of the background that do, and that do
            not touch the image's edge. Each takes the class that surrounds most of it. Empty leaves
            the mask as it is.

    Raises:
        ConfigError: how names anything else.
    """
    if unknown := [key for key in how if key not in (SMALL, HOLES)]:
        raise ConfigError(
            f"postprocessing: '{unknown[0]}' is unknown. {closest(unknown[0], (SMALL, HOLES))}"
        )
    cleaned = classes.copy()
    if how.get(HOLES):
        _replace(cleaned, 0, how[HOLES] * classes.size, enclosed=True)
    if how.get(SMALL):
        for number in np.unique(cleaned[cleaned > 0]):
            _replace(cleaned, int(number), how[SMALL] * classes.size)
    return cleaned


def _replace(classes: Mask, number: int, least: float, enclosed: bool = False) -> None:
    """Give the regions of one class with fewer pixels than `least` to the class around them."""
    here = (classes == number).astype(np.uint8)
    count, regions, stats, _ = cv2.connectedComponentsWithStats(here, connectivity=8)
    height, width = classes.shape
    for region in range(1, count):
        left, top, wide, high, area = (int(value) for value in stats[region])
        at_edge = left == 0 or top == 0 or left + wide == width or top + high == height
        if area >= least or (enclosed and at_edge):
            continue
        rows = slice(max(0, top - 1), top + high + 1)
        columns = slice(max(0, left - 1), left + wide + 1)
        inside = (regions[rows, columns] == region).astype(np.uint8)
        ring = cv2.dilate(inside, np.ones((3, 3), np.uint8)) > inside
        around = classes[rows, columns][ring]
        if around.size:
            classes[rows, columns][inside > 0] = np.bincount(around).argmax()
