"""Images of other types than uint8, from the folder to the batch and its statistics."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysearch.config import Recipe, Task
from raysearch.data import Data, open_data, training_batches, validation_batches
from raysearch.data.augmentation import augmentation, describe, reseed
from raysearch.data.augmentation import segmentation as segmented
from raysearch.data.decoding import decode
from raysearch.data.formats.pairs import Format
from raysearch.data.samples import Sample
from raysearch.training.normalisation import statistics
from tests.data.pairs_miniature import (
    CLASSES,
    plain,
    random_bands,
    random_mask,
    write_mask,
    write_tif,
)

RGB = Task("segmentation", 3, CLASSES)
PHOTOGRAPHS = Task("classification", 3, CLASSES)
COUNT = 12


def recipe(**values: Any) -> Recipe:
    sizes = {"image_size": None, "crop_size": 32, "batch_size": 4, "elastic": False}
    return Recipe(architecture="unet", **{**sizes, "augment_strength": 2.0, **values})


def opened(root: Path, images: list[np.ndarray], **values: Any) -> Data:
    for number, image in enumerate(images):
        write_tif(root / "images" / f"{number:02d}.tif", image)
        write_mask(root / "masks" / f"{number:02d}.png", random_mask(number))
    return open_data(plain(bands=images[0].shape[2], **values), root, root / "cache", seed=0)


@pytest.fixture
def colours(tmp_path: Path) -> Data:
    """Pictures of three bands of 16 bits, the values of each within 1000 of 20000."""
    random = np.random.default_rng(0)
    images = [random.integers(19_000, 21_000, (20, 24, 3)).astype("uint16") for _ in range(COUNT)]
    return opened(tmp_path, images)


class TestBatches:
    def test_colours_of_16_bits_keep_their_values(self, colours: Data) -> None:
        batches = training_batches(colours, recipe(), RGB)
        for number in range(1, 6):
            batches.set_epoch(number)
            for images, *_ in batches:
                assert images.dtype == torch.float32
                assert 19_000 <= images.min() < images.max() < 21_000

    def test_what_was_made_is_read_back(self, colours: Data) -> None:
        live = training_batches(colours, recipe(), RGB).live_values()
        assert (live["augment_strength"], live["crop_size"]) == (2.0, 32)

    def test_whole_images_are_not_copied(self, colours: Data) -> None:
        given = []
        dataset = training_batches(colours, recipe(), RGB).dataset
        transform = dataset.transform

        def noted(**arrays: np.ndarray) -> Any:
            given.append(arrays["image"])
            return transform(**arrays)

        noted.transforms = transform.transforms  # type: ignore[attr-defined]
        dataset.transform = noted  # type: ignore[assignment]
        assert dataset[1, 0, 0].images.dtype == torch.float32
        assert given[0].dtype == colours.cache.dtype == np.uint16
        assert not given[0].flags.owndata

    def test_validation(self, colours: Data) -> None:
        for batch in validation_batches(colours, recipe(image_size=32)):
            assert batch.images.dtype == torch.float32
            assert 19_000 <= batch.images.min() < batch.images.max() < 21_000


@pytest.mark.parametrize("dtype", ["uint16", "int16"])
@pytest.mark.parametrize("bands", [1, 3, 7])
@pytest.mark.parametrize("image_size", [None, 40, 100])
def test_whole_numbers_are_warped_as_fractions_are(dtype: str, bands: int, image_size: int) -> None:
    task = Task("segmentation", bands, CLASSES)
    image = random_bands(bands, 0, dtype).repeat(3, axis=0).repeat(3, axis=1)
    mask = random_mask(0).repeat(3, axis=0).repeat(3, axis=1)
    elastic = bands == 3
    chosen = recipe(image_size=image_size, crop_size=48, elastic=elastic, quarter_turns=True)
    made = augmentation(chosen, task, eight_bit=False)
    for seed in range(8):
        reseed(made, seed)
        whole = made(image=image, mask=mask)
        reseed(made, seed)
        fractions = made(image=image.astype(np.float32), mask=mask)
        assert whole["image"].dtype == (np.float32 if elastic else dtype)
        np.testing.assert_array_equal(whole["mask"], fractions["mask"])
        np.testing.assert_allclose(whole["image"], fractions["image"], atol=2)


class TestOnlyPlacesChange:
    def test_of_pixels(self) -> None:
        names = {type(part).__name__ for part in augmentation(recipe(), RGB, False).transforms}
        assert names == {"Resize", "WarpCrop", "HorizontalFlip"}
        made = segmented.augmentation(recipe(), RGB)
        assert "ColorJitter" in {type(part).__name__ for part in made.transforms}

    @pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
    def test_of_whole_images(self, dtype: str) -> None:
        image = 1000 + random_bands(3, 0, "uint8").astype(dtype)
        made = augmentation(recipe(image_size=32), PHOTOGRAPHS, eight_bit=False)
        for seed in range(30):
            reseed(made, seed)
            changed = made(image=image)["image"]
            assert (changed.shape, changed.dtype) == ((32, 32, 3), dtype)
            assert 1000 <= changed.min() < changed.max() < 1256
        said = describe(made, PHOTOGRAPHS)
        assert (said["augment_strength"], said["image_size"]) == (2.0, 32)


class TestStatistics:
    def test_of_every_training_value(self, colours: Data) -> None:
        indices = colours.indices("train")
        values = np.concatenate([colours.cache.image(i).reshape(-1, 3) for i in indices])
        mean, std = statistics(colours)
        np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(std, values.std(axis=0), rtol=1e-6)

    def test_missing_values_do_not_count(self, tmp_path: Path) -> None:
        """Some images lack nearly everything, or all; one band is the same everywhere."""
        images = [random_bands(2, number, "float32") for number in range(COUNT)]
        for number, image in enumerate(images):
            image[..., 1] = 5000.1
            image[: 19 if number % 2 else 3] = -9999
            if number % 4 == 0:
                image[:] = -9999
        data = opened(tmp_path, images, options={"nodata": [-9999]})
        trained = [images[int(data.cache.names[at])] for at in data.indices("train")]
        known = np.concatenate([image[..., 0][image[..., 0] != -9999] for image in trained])
        mean, std = statistics(data)
        np.testing.assert_allclose(mean, [known.mean(dtype=np.float64), 5000.1], rtol=1e-5)
        np.testing.assert_allclose(std, [known.std(dtype=np.float64), 1], rtol=1e-5)

    def test_photographs_have_those_of_imagenet(self, tmp_path: Path) -> None:
        data = opened(tmp_path, [random_bands(3, number, "uint8") for number in range(COUNT)])
        assert statistics(data)[0] / 255 == pytest.approx([0.485, 0.456, 0.406])


class Interleaved(Format):
    """All bands of a pixel side by side, as MARIDA's reader gives them."""

    def image(self, sample: Sample) -> np.ndarray:
        return np.ascontiguousarray(super().image(sample))


def test_gaps_are_filled_with_the_exact_mean(tmp_path: Path) -> None:
    image = np.full((1000, 1000, 2), 5000.1, dtype=np.float32)
    image[:3] = -1
    write_tif(tmp_path / "images" / "a.tif", image)
    write_mask(tmp_path / "masks" / "a.png", np.zeros((1000, 1000), dtype=np.uint8))
    reader = Interleaved(tmp_path, plain(bands=2, options={"nodata": [-1]}))
    decoded = decode(reader, reader.samples()[0], (1000, 1000))
    assert decoded.image.dtype == np.float32
    np.testing.assert_allclose(decoded.image, 5000.1, rtol=1e-6)
