"""Masks that are cleaned: small regions, holes, what is narrow, and what touches."""

import cv2
import numpy as np
import pytest

from raysearch.errors import ConfigError
from raysearch.inference.postprocess import STAGES, Mask, described, postprocess


def regions(mask: Mask) -> int:
    return int(cv2.connectedComponents((mask > 0).astype(np.uint8))[0]) - 1


def discs(left: int, right: int) -> Mask:
    """Two discs that touch, of these classes; the neck between them lies at column 64."""
    mask = np.zeros((128, 128), np.uint8)
    cv2.circle(mask, (42, 64), 25, left, -1)
    cv2.circle(mask, (86, 64), 25, right, -1)
    return mask


def test_small_regions_take_the_class_around_them() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[4:14, 4:14] = 1
    mask[8, 8] = 0  # A hole in the region.
    mask[6, 6] = 2  # A speck in it.
    mask[17, 17] = 2  # A speck in the background.
    before = mask.copy()
    cleaned = postprocess(mask, {"small_regions": 0.01, "holes": 0.01})
    expected = np.zeros((20, 20), np.uint8)
    expected[4:14, 4:14] = 1
    assert np.array_equal(cleaned, expected)
    assert np.array_equal(postprocess(mask, {}), before)
    assert np.array_equal(mask, before)


def test_opening_takes_what_is_narrow_of_a_region() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[30:70, 30:70] = 1
    mask[49:51, 70:95] = 1  # A thread out of it.
    mask[40:60, 49:51] = 2  # A sliver of another class within.
    cleaned = postprocess(mask, {"opening": 0.05})
    assert not cleaned[49:51, 75:].any()
    assert (cleaned[40:60, 49:51] == 1).all()
    assert (cleaned[35:65, 35:65] == 1).all()


def test_closing_fills_narrow_gaps_by_the_class_beside_them() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[30:70, 30:70] = 3
    mask[30:70, 49:51] = 0  # A gap from edge to edge, which is no hole.
    assert regions(mask) == 2
    assert regions(postprocess(mask, {"holes": 0.1})) == 2
    cleaned = postprocess(mask, {"closing": 0.05})
    assert (cleaned[32:68, 30:70] == 3).all()
    assert cleaned[:20].sum() == 0


def test_each_part_of_touching_animals_has_one_class() -> None:
    """A quarter of the left one was taken for another class."""
    mask = discs(1, 2)
    truth = mask.copy()
    mask[64:, :38][mask[64:, :38] == 1] = 2
    cleaned = postprocess(mask, {"watershed": 0.1})
    assert (mask != truth).sum() > 300
    assert (cleaned != truth).sum() < 60  # Along the neck.
    assert np.array_equal(cleaned > 0, mask > 0)


def test_what_touches_is_split_at_its_narrowest() -> None:
    mask = discs(1, 1)
    assert regions(mask) == 1
    cleaned = postprocess(mask, {"watershed": 0.1, "split": 0.016})
    assert regions(cleaned) == 2
    rows, columns = np.nonzero(cleaned != mask)
    assert len(rows) < 80
    assert ((columns > 60) & (columns < 68)).all()
    assert np.array_equal(postprocess(mask, {"watershed": 0.1}), mask)


def test_without_two_cores_nothing_is_split() -> None:
    mask = np.zeros((128, 128), np.uint8)
    cv2.circle(mask, (40, 64), 25, 1, -1)
    cv2.circle(mask, (110, 20), 3, 2, -1)  # Too small for a core; it keeps its class.
    cleaned = postprocess(mask, {"watershed": 0.1, "split": 0.016})
    assert np.array_equal(cleaned, mask)
    assert np.array_equal(postprocess(mask, {"watershed": 0.5}), mask)


@pytest.mark.parametrize("how", [step for stage in STAGES for step in stage], ids=described)
def test_every_choice_leaves_empty_and_full_masks(how: dict[str, float]) -> None:
    for number in (0, 2):
        mask = np.full((40, 48), number, np.uint8)
        assert np.array_equal(postprocess(mask, how), mask)


def test_what_is_no_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'holes'"):
        postprocess(np.zeros((4, 4), np.uint8), {"hole": 0.1})
    assert (
        described({"small_regions": 0.002, "opening": 0.01}) == "small regions 0.2 %, opening 1 %"
    )
    assert described({}) == "none"
