"""One knob: validation's view at strength 0, the document's list at 1, more at 2."""

from typing import Any

import albumentations as A
import numpy as np
import pytest

from raysearch.config import Recipe, Task
from raysearch.data.augmentation import augmentation, describe, reseed
from raysearch.data.augmentation.classification import for_evaluation

TASK = Task("classification", 3, ("cat", "dog"))
GREY = Task("classification", 1, ("cat", "dog"))
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (60, 90, 3), dtype=np.uint8)


def made(task: Task = TASK, **values: object) -> A.Compose:
    return augmentation(Recipe(architecture="b0", **{"image_size": 224, **values}), task)


def applied(compose: A.Compose, *entropy: int, image: np.ndarray = IMAGE) -> np.ndarray:
    reseed(compose, *entropy)
    result: np.ndarray = compose(image=image)["image"]
    return result


def described(task: Task = TASK, **values: object) -> dict[str, Any]:
    return describe(made(task, **values), task)


class TestEvaluation:
    @pytest.mark.parametrize("shape", [(400, 300, 3), (30, 90, 3), (64, 64, 1), (73, 73, 12)])
    @pytest.mark.parametrize("size", [64, 224, 300])
    def test_squares_of_any_image(self, shape: tuple[int, int, int], size: int) -> None:
        image = RNG.integers(0, 256, shape, dtype=np.uint8)
        square = for_evaluation(image, size)
        assert (square.shape, square.dtype) == ((size, size, shape[2]), np.uint8)

    def test_shows_seven_eighths_of_the_shorter_side(self) -> None:
        """Along both sides, about the middle: a ramp keeps its values at the crop's edges."""
        ramp = np.arange(256, dtype=np.float32)
        image = np.broadcast_to(ramp[:, None, None], (256, 512, 1)).copy()
        square = for_evaluation(image, 112)
        assert square[[0, -1], 0, 0] == pytest.approx([16.5, 238.5], abs=1)
        across = for_evaluation(image.transpose(1, 0, 2).copy(), 112)
        np.testing.assert_allclose(across[0, :, 0], square[:, 0, 0], atol=1)

    def test_areas_are_averaged(self) -> None:
        board = np.indices((256, 256)).sum(0).astype(np.uint8)[..., None] % 2 * 200
        assert set(np.unique(for_evaluation(board, 56)).tolist()) == {100}


class TestNothingAtStrengthZero:
    @pytest.mark.parametrize("task", [TASK, GREY])
    def test_training_sees_what_validation_sees(self, task: Task) -> None:
        image = IMAGE[..., : task.bands]
        compose = made(task, augment_strength=0, image_size=64)
        for seed in range(20):
            changed = applied(compose, seed, image=image)
            np.testing.assert_array_equal(changed, for_evaluation(image, 64))

    def test_all_probabilities_are_zero(self) -> None:
        values = described(augment_strength=0)
        assert {v for k, v in values.items() if k.endswith("_probability")} == {0.0}


class TestTheDocumentAtStrengthOne:
    values = described(augment_strength=1)

    def test_every_transform_that_it_names(self) -> None:
        names = {type(transform).__name__ for transform in made().transforms}
        assert names == {
            "RandomResizedCrop", "HorizontalFlip", "ColorJitter", "Affine", "CoarseDropout",
            "RandomBrightnessContrast", "HueSaturationValue", "GaussNoise", "GaussianBlur",
            "RandomGamma",
        }  # fmt: skip

    def test_its_values(self) -> None:
        values = self.values
        assert values["brightness"] == values["contrast"] == pytest.approx((-0.3, 0.3))
        assert (values["hue"], values["saturation"], values["value"]) == (
            (-20, 20),
            (-30, 30),
            (-20, 20),
        )
        assert (np.array(values["noise"]) * 255) ** 2 == pytest.approx([10, 50])
        assert values["gamma"] == (80, 120)
        assert (values["holes"], values["hole_side"]) == (8, 32)
        assert values["least_area"] == pytest.approx(0.08)

    def test_its_probabilities(self) -> None:
        half = ("flip", "affine", "brightness", "colour", "jitter", "holes")
        third = ("gamma", "blur", "noise")
        assert {self.values[f"{name}_probability"] for name in half} == {0.5}
        assert {self.values[f"{name}_probability"] for name in third} == {0.3}

    def test_blur_has_the_width_of_kernels_of_3_to_7(self) -> None:
        sizes = np.array([3, 7])
        opencv = 0.3 * ((sizes - 1) * 0.5 - 1) + 0.8
        assert self.values["blur"] == pytest.approx(opencv.tolist())

    def test_holes_cover_their_share_of_the_pixels(self) -> None:
        compose = made(augment_strength=1, image_size=112)
        holes = A.Compose([compose.transforms[-1]])
        holes.transforms[0].p = 1.0
        white = np.full((112, 112, 3), 255, dtype=np.uint8)
        shares = [(applied(holes, seed, image=white) == 0).mean() for seed in range(20)]
        assert 0.10 < np.mean(shares) <= 8 * (32 / 224) ** 2


class TestStrengthScales:
    @pytest.mark.parametrize("strength", [0.0, 0.25, 0.5, 1.0, 1.5, 2.0])
    @pytest.mark.parametrize("task", [TASK, GREY])
    def test_is_read_back(self, strength: float, task: Task) -> None:
        values = described(task, augment_strength=strength, image_size=96)
        assert values["augment_strength"] == pytest.approx(strength)
        assert values["image_size"] == 96

    def test_probabilities_and_magnitudes_together(self) -> None:
        weak, strong = described(augment_strength=0.5), described(augment_strength=2)
        assert (weak["rotation"], strong["rotation"]) == (22.5, 90)
        assert (weak["colour_probability"], strong["colour_probability"]) == (0.25, 1.0)
        assert strong["brightness"] == pytest.approx((-0.6, 0.6))
        assert strong["least_area"] < weak["least_area"] == pytest.approx(0.54)
        assert (weak["holes"], strong["holes"]) == (4, 16)

    def test_images_change_more(self) -> None:
        smooth = np.linspace(0, 255, 96 * 96 * 3).reshape(96, 96, 3).astype(np.uint8)
        plain = for_evaluation(smooth, 64).astype(int)

        def change(strength: float) -> float:
            compose = made(augment_strength=strength, image_size=64)
            images = [applied(compose, seed, image=smooth) for seed in range(60)]
            return float(np.mean([np.abs(image - plain) for image in images]))

        changes = [change(strength) for strength in (0.0, 0.3, 1.0, 2.0)]
        assert changes[0] == 0
        assert changes == sorted(set(changes))


@pytest.mark.parametrize("strength", [0.25, 1.0, 2.0])
@pytest.mark.parametrize("task", [TASK, GREY])
@pytest.mark.parametrize("shape", [(60, 90), (300, 40), (33, 33)])
def test_bytes_of_the_recipes_size(strength: float, task: Task, shape: tuple[int, int]) -> None:
    image = RNG.integers(0, 256, (*shape, task.bands), dtype=np.uint8)
    compose = made(task, augment_strength=strength, image_size=64)
    for seed in range(20):
        changed = applied(compose, seed, image=image)
        assert (changed.shape, changed.dtype) == ((64, 64, task.bands), np.uint8)


def test_grey_images_have_no_colours_to_change() -> None:
    names = {type(transform).__name__ for transform in made(GREY).transforms}
    assert not names & {"ColorJitter", "HueSaturationValue"}
    assert "RandomGamma" in names


def test_same_numbers_same_image() -> None:
    compose = made(augment_strength=1, image_size=64)
    first = applied(compose, 3, 4)
    assert not np.array_equal(applied(compose, 3, 5), first)
    np.testing.assert_array_equal(applied(compose, 3, 4), first)
