"""Clean a mask: what is too small or too narrow to be an object or a gap, and what touches.

A conditional random field, which would draw masks to the edges of the image, is not offered: no
library of one is maintained.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.errors import ConfigError, closest

Mask = NDArray[np.uint8]
How = Mapping[str, Any]

OPENING, CLOSING, SMALL, HOLES = "opening", "closing", "small_regions", "holes"
WATERSHED, SPLIT = "watershed", "split"
STEPS = (OPENING, CLOSING, HOLES, SMALL, WATERSHED, SPLIT)

AREAS = (0.0005, 0.002, 0.01)
WIDTHS = (0.01, 0.02, 0.04)
DEPTHS = (0.04, 0.08)
LINE = 0.004
LEVELS = 6
# What is tried on validation images, stage after stage: each adds to what those before have kept.
STAGES: tuple[tuple[dict[str, float], ...], ...] = (
    tuple({SMALL: area} for area in AREAS),
    tuple({HOLES: area} for area in AREAS),
    tuple({OPENING: width} for width in WIDTHS),
    tuple({CLOSING: width} for width in WIDTHS),
    tuple({WATERSHED: depth} | line for depth in DEPTHS for line in ({}, {SPLIT: LINE})),
)


def postprocess(classes: Mask, how: How) -> Mask:
    """Return a mask (H, W) of class ids, cleaned.

    The background is class 0. The steps are taken in this order, whichever `how` names; lengths are
    shares of the image's longer side, areas of its area. Empty leaves the mask as it is.

    Args:
        how:
            "opening": what is narrower than this of a region of any class but the background takes
                the nearest class that stays.
            "closing": what is narrower than this of the background does.
            "holes": regions of the background with less than this area, and that do not touch the
                image's edge, take the class that surrounds most of them.
            "small_regions": connected regions of any other class with less than this area do too.
            "watershed": the foreground, of all classes together, is divided between its cores,
                which lie at least this far from the background; each part (ideally, one animal)
                takes the class that most of it has.
            "split": between touching parts of one class a line of background with this width is
                drawn. Overlap metrics gain by it only where the labels have a gap there: along
                borders that are ignored it counts neither way. It is for counting what touches.

    Raises:
        ConfigError: how names anything else.
    """
    if unknown := [key for key in how if key not in STEPS]:
        nearest = closest(unknown[0], STEPS)
        raise ConfigError(f"postprocessing: '{unknown[0]}' is unknown. {nearest}")
    cleaned, side = classes.copy(), max(classes.shape)
    if how.get(OPENING):
        _narrow(cleaned, _present(cleaned), how[OPENING] * side)
    if how.get(CLOSING):
        _narrow(cleaned, [0], how[CLOSING] * side)
    if how.get(HOLES):
        _replace(cleaned, 0, how[HOLES] * classes.size, enclosed=True)
    if how.get(SMALL):
        for number in _present(cleaned):
            _replace(cleaned, number, how[SMALL] * classes.size)
    if how.get(WATERSHED):
        _divide(cleaned, how[WATERSHED] * side, how.get(SPLIT, 0.0) * side)
    return cleaned


def described(how: How) -> str:
    """Return post-processing in a few words, such as "holes 0.2 %, opening 1 %"."""
    return ", ".join(f"{name.replace('_', ' ')} {100 * v:g} %" for name, v in how.items()) or "none"


def _present(classes: Mask) -> list[int]:
    """The classes of a mask, without the background."""
    counts = cv2.calcHist([classes], [0], None, [256], [0, 256]).ravel()
    return [int(number) for number in np.flatnonzero(counts) if number]


def _narrow(classes: Mask, numbers: Sequence[int], width: float) -> None:
    """Give what is narrower than a width of these classes' regions to the nearest that stays."""
    diameter = 2 * max(1, round(width / 2)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    falls = np.zeros(classes.shape, np.uint8)
    for number in numbers:
        here = (classes == number).astype(np.uint8)
        falls |= here - cv2.morphologyEx(here, cv2.MORPH_OPEN, kernel)
    if falls.any() and not falls.all():
        classes[...] = _nearest(classes, falls > 0)


def _replace(classes: Mask, number: int, least: float, enclosed: bool = False) -> None:
    """Give the regions of one class with fewer pixels than `least` to the class around them."""
    here = (classes == number).astype(np.uint8)
    _, regions, stats, _ = cv2.connectedComponentsWithStats(here, connectivity=8)
    height, width = classes.shape
    for region in np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < least):
        left, top, wide, high = (int(value) for value in stats[region, :4])
        at_edge = left == 0 or top == 0 or left + wide == width or top + high == height
        if region == 0 or (enclosed and at_edge):
            continue
        rows = slice(max(0, top - 1), top + high + 1)
        columns = slice(max(0, left - 1), left + wide + 1)
        inside = (regions[rows, columns] == region).astype(np.uint8)
        ring = cv2.dilate(inside, np.ones((3, 3), np.uint8)) > inside
        around = classes[rows, columns][ring]
        if around.size:
            classes[rows, columns][inside > 0] = np.bincount(around).argmax()


def _divide(classes: Mask, depth: float, line: float) -> None:
    """Divide the foreground between its cores by a watershed of the distance to the background.

    The parts grow from their cores level by level (Vincent and Soille 1991, doi 10.1109/34.87344),
    so that they meet where what joins them is narrowest. Regions without a core stay as they are.
    """
    inside = np.pad((classes > 0).astype(np.uint8), 1)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5)[1:-1, 1:-1]
    count, parts = cv2.connectedComponents((distance >= depth).astype(np.uint8))
    if count == 1:
        return
    number, regions = cv2.connectedComponents((classes > 0).astype(np.uint8))
    has_core = np.zeros(number, np.bool_)
    has_core[regions[parts > 0]] = True
    divided = has_core[regions]
    for level in np.linspace(depth, 0, LEVELS + 1)[1:]:
        reached = divided & (distance >= level)
        parts = np.where(reached, _nearest(parts, parts == 0), 0)
    pairs = 256 * parts[divided] + classes[divided]
    held = np.bincount(pairs, minlength=256 * count).reshape(count, 256)
    classes[divided] = held.argmax(1)[parts[divided]]
    if line:
        _draw_between(classes, parts, line)


def _draw_between(classes: Mask, parts: NDArray[np.int32], width: float) -> None:
    """Draw a line of background where two parts of one class touch."""
    between = np.zeros(classes.shape, np.uint8)
    for one, two in (((slice(1, None),), (slice(-1),)), ((..., slice(1, None)), (..., slice(-1)))):
        touch = (parts[one] != parts[two]) & (classes[one] == classes[two]) & (classes[one] > 0)
        between[one] |= touch.astype(np.uint8)
    if (side := round(width)) > 1:
        between = cv2.dilate(between, np.ones((side, side), np.uint8))
    classes[(between > 0) & (parts > 0)] = 0


def _nearest(values: NDArray[Any], missing: NDArray[np.bool_]) -> NDArray[Any]:
    """Give places without a value that of the nearest place with one."""
    _, number = cv2.distanceTransformWithLabels(
        missing.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_number = np.zeros(int(number.max()) + 1, values.dtype)
    of_number[number[~missing]] = values[~missing]
    return of_number[number]
