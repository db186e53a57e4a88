"""Pictures taken from above: eleven bands of float32, with masks and weights that move along."""

from typing import Any

import numpy as np
import pytest

from raysearch.config import Recipe, Task
from raysearch.data.augmentation import augmentation, reseed

SIDE, BANDS, IGNORED = 36, 11, 255
TASK = Task("segmentation", BANDS, ("other", "debris"), ignore_index=IGNORED)
RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(0.0, 0.3, (SIDE, SIDE, BANDS)).astype(np.float32)
MASK = (IMAGE[..., 0] > 0.2).astype(np.uint8)
WEIGHT = (IMAGE[..., 1] * 800).astype(np.uint8)


def recipe(**values: Any) -> Recipe:
    base = {"architecture": "unet", "crop_size": SIDE, "elastic": False, "quarter_turns": True}
    return Recipe.model_validate({**base, **values})


def applied(made: Any, seed: int, image: np.ndarray = IMAGE) -> dict[str, np.ndarray]:
    reseed(made, seed)
    changed: dict[str, np.ndarray] = made(image=image, mask=MASK, weight=WEIGHT)
    return changed


def orientations(pixels: np.ndarray) -> list[np.ndarray]:
    """The eight ways to lay a square: four quarter turns, and those of its mirror image."""
    return [np.rot90(laid, turns) for laid in (pixels, pixels[:, ::-1]) for turns in range(4)]


def orientation(pixels: np.ndarray, of: np.ndarray) -> int | None:
    found = [n for n, laid in enumerate(orientations(of)) if np.array_equal(laid, pixels)]
    return found[0] if found else None


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_all_eight_orientations_with_mask_and_weight_aligned(strength: float) -> None:
    made = augmentation(recipe(augment_strength=strength), TASK)
    reached = set()
    for seed in range(150):
        changed = applied(made, seed)
        laid = orientation(changed["image"], IMAGE)
        if laid is not None:  # The others are turned by an angle of any size too.
            np.testing.assert_array_equal(changed["mask"], orientations(MASK)[laid])
            np.testing.assert_array_equal(changed["weight"], orientations(WEIGHT)[laid])
            reached.add(laid)
    assert reached == set(range(8))


def test_without_quarter_turns_a_picture_is_mirrored_at_most() -> None:
    made = augmentation(recipe(augment_strength=1.0, quarter_turns=False), TASK)
    laid = {orientation(applied(made, seed)["image"], IMAGE) for seed in range(60)}
    assert laid - {None} == {0, 4}


@pytest.mark.parametrize("elastic", [False, True])
def test_every_band_moves_alike_and_keeps_its_type_and_range(elastic: bool) -> None:
    """Bands are warped four at a time, and must not come apart."""
    made = augmentation(recipe(augment_strength=2.0, elastic=elastic), TASK)
    same = np.repeat(IMAGE[..., :1], BANDS, axis=2)
    for seed in range(12):
        image = applied(made, seed, same)["image"]
        assert image.shape == (SIDE, SIDE, BANDS)
        assert image.dtype == np.float32
        np.testing.assert_allclose(image, np.repeat(image[..., :1], BANDS, axis=2), atol=1e-6)
        assert same.min() - 1e-6 <= image.min() <= image.max() <= same.max() + 1e-6


@pytest.mark.parametrize("elastic", [False, True])
def test_mask_and_weight_follow_a_picture_that_is_warped(elastic: bool) -> None:
    """A picture of the mask agrees with the warped mask but at edges; ids and levels stay."""
    made = augmentation(recipe(augment_strength=1.0, elastic=elastic), TASK)
    blocks = np.kron(RNG.integers(0, 2, (4, 4), dtype=np.uint8), np.ones((9, 9), np.uint8))
    picture = np.repeat(blocks[..., None].astype(np.float32), BANDS, axis=2)
    for seed in range(20):
        reseed(made, seed)
        changed = made(image=picture, mask=blocks, weight=blocks * 170)
        mask, known = changed["mask"], changed["mask"] != IGNORED
        assert set(np.unique(mask).tolist()) <= {0, 1, IGNORED}
        assert known.mean() > 0.3
        assert (np.abs(changed["image"][..., -1] - mask)[known] <= 0.5).mean() > 0.9
        np.testing.assert_array_equal(changed["weight"][known], mask[known] * 170)


def test_spectra_are_never_recoloured() -> None:
    """Jitter is for colours: without warping, each pixel's spectrum is one of the picture's."""
    made = augmentation(recipe(augment_strength=2.0), TASK)
    made.transforms = [part for part in made.transforms if type(part).__name__ != "WarpCrop"]
    spectra = {pixel.tobytes() for pixel in IMAGE.reshape(-1, BANDS)}
    for seed in range(8):
        changed = applied(made, seed)["image"].reshape(-1, BANDS)
        assert {pixel.tobytes() for pixel in changed} == spectra
