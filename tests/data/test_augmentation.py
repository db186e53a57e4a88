"""One knob: nothing at strength 0, the documented set at 1, twice as much at 2."""

from typing import Any

import numpy as np
import pytest

from raysearch.config import Recipe, Task
from raysearch.data.augmentation import reseed
from raysearch.data.augmentation.segmentation import WarpCrop, augmentation, describe

TASK = Task("segmentation", 3, ("background", "cat", "dog"))
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (60, 90, 3), dtype=np.uint8)
MASK = np.kron(RNG.integers(0, 3, (6, 9), dtype=np.uint8), np.ones((10, 10), np.uint8))


def recipe(**values: object) -> Recipe:
    sizes = {"image_size": 64, "crop_size": 48, "elastic": True}
    return Recipe(architecture="unet", **{**sizes, **values})


def applied(made: Any, *entropy: int, image: np.ndarray = IMAGE) -> tuple[np.ndarray, np.ndarray]:
    reseed(made, *entropy)
    result = made(image=image, mask=MASK)
    return result["image"], result["mask"]


class TestNothingAtStrengthZero:
    def test_whole_image_is_unchanged(self) -> None:
        made = augmentation(recipe(augment_strength=0, image_size=None, crop_size=90), TASK)
        image, mask = applied(made, 1)
        np.testing.assert_array_equal(image[15:75], IMAGE)
        np.testing.assert_array_equal(mask[15:75], MASK)
        assert (mask[:15] == 255).all()
        assert (mask[75:] == 255).all()

    def test_crops_are_windows_of_the_image(self) -> None:
        made = augmentation(recipe(augment_strength=0, image_size=None, crop_size=40), TASK)
        image, mask = applied(made, 2)
        windows = np.lib.stride_tricks.sliding_window_view(IMAGE, (40, 40, 3))
        (top,), (left,), _ = np.nonzero((windows == image).all((3, 4, 5)))
        np.testing.assert_array_equal(mask, MASK[top : top + 40, left : left + 40])

    def test_all_magnitudes_and_probabilities_are_zero(self) -> None:
        made = describe(augmentation(recipe(augment_strength=0), TASK))
        assert {value for key, value in made.items() if key.endswith("_probability")} == {0.0}
        assert (made["rotation"], made["scale"], made["brightness"]) == (0, 1, (1, 1))


class TestStrengthScales:
    @pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.0])
    def test_probabilities_and_magnitudes_together(self, strength: float) -> None:
        made = describe(augmentation(recipe(augment_strength=strength, crop_size=512), TASK))
        assert made["augment_strength"] == strength
        assert made["rotation"] == 30 * strength
        assert made["brightness"] == pytest.approx((1 - 0.2 * strength, 1 + 0.2 * strength))
        assert made["contrast"] == made["saturation"] == made["brightness"]
        assert made["elastic_alpha"] == 100 * strength
        assert made["elastic_sigma"] == 10
        assert made["scale"] == pytest.approx(1.25**strength)
        for name in ("warp", "jitter", "elastic"):
            assert made[f"{name}_probability"] == 0.5 * strength

    def test_images_change_more(self) -> None:
        def change(strength: float) -> float:
            made = augmentation(
                recipe(augment_strength=strength, image_size=None, crop_size=90), TASK
            )
            masks = [applied(made, seed)[1][15:75] for seed in range(40)]
            return float(np.mean([mask != MASK for mask in masks]))

        changes = [change(strength) for strength in (0.0, 0.5, 1.0, 2.0)]
        assert changes[0] == 0
        assert changes == sorted(set(changes))

    def test_elastic_looks_the_same_at_any_size(self) -> None:
        small, large = (describe(augmentation(recipe(crop_size=size), TASK)) for size in (128, 512))
        shift = [made["elastic_alpha"] / made["elastic_sigma"] for made in (small, large)]
        assert shift[0] / 128 == pytest.approx(shift[1] / 512)


@pytest.mark.parametrize("strength", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("bands", [1, 3, 4, 12])
def test_masks_hold_known_ids_only(strength: float, bands: int) -> None:
    task = Task("segmentation", bands, TASK.classes, ignore_index=77)
    image = RNG.integers(0, 256, (60, 90, bands), dtype=np.uint8)
    made = augmentation(recipe(augment_strength=strength, crop_size=80), task)
    for seed in range(20):
        changed, mask = applied(made, seed, image=image)
        assert changed.shape == (80, 80, bands)
        assert changed.dtype == mask.dtype == np.uint8
        assert mask.shape == (80, 80)
        assert set(np.unique(mask).tolist()) <= {0, 1, 2, 77}
        assert (mask != 77).any()


def test_image_and_mask_turn_together() -> None:
    """A picture of the mask, warped as an image, agrees with the warped mask but at edges."""
    made = augmentation(recipe(augment_strength=2, elastic=False, image_size=None), TASK)
    made.transforms = [part for part in made.transforms if type(part).__name__ != "ColorJitter"]
    picture = np.repeat(MASK[..., None] * 100, 3, axis=2)
    for seed in range(10):
        image, mask = applied(made, seed, image=picture)
        known = mask != 255
        assert (np.abs(image[..., 0].astype(int) - mask * 100)[known] <= 30).mean() > 0.85


def test_turn_without_scale_keeps_the_centre() -> None:
    warp = WarpCrop(61, degrees=30, scale=1, ignore_index=255, probability=1)
    image = np.zeros((61, 61, 3), dtype=np.uint8)
    image[30, 30] = 200
    for _ in range(5):
        assert warp(image=image, mask=image[..., 0])["image"][30, 30, 0] >= 190


def test_same_entropy_same_result_and_transforms_are_independent() -> None:
    made = augmentation(recipe(augment_strength=1), TASK)
    for one, two in zip(applied(made, 1, 2, 3), applied(made, 1, 2, 3), strict=True):
        np.testing.assert_array_equal(one, two)
    assert (applied(made, 1, 2, 3)[0] != applied(made, 1, 2, 4)[0]).any()
    combinations = set()
    for seed in range(60):
        applied(made, seed)
        parts = {type(part).__name__: part for part in made.transforms}
        flip, jitter = (bool(parts[name].params) for name in ("HorizontalFlip", "ColorJitter"))
        combinations.add((flip, jitter))
    assert len(combinations) == 4


def test_searched_values_are_read_back() -> None:
    made = describe(
        augmentation(
            recipe(image_size=None, crop_size=96, augment_strength=1.3, elastic=False), TASK
        )
    )
    assert made["image_size"] is None
    assert (made["crop_size"], made["elastic"]) == (96, False)
    assert made["augment_strength"] == pytest.approx(1.3)
    assert "elastic_alpha" not in made
