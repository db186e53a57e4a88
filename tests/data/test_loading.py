"""What an epoch holds depends on seed and epoch alone: not on workers, ranks or a resume."""

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from raysearch.config import Recipe, Task
from raysearch.data import Batch, Data, open_data, training_batches, validation_batches
from raysearch.data.loading import Order
from raysearch.errors import ConfigError
from tests.data.voc_miniature import CLASSES, config

TASK = Task("segmentation", 3, CLASSES)


def recipe(**values: object) -> Recipe:
    sizes = {"image_size": 40, "crop_size": 32, "batch_size": 4, "elastic": False}
    return Recipe(architecture="unet", **{**sizes, **values})


def epoch(data: Data, number: int, **values: int) -> list[Batch]:
    batches = training_batches(data, recipe(), TASK, **values)
    batches.set_epoch(number)
    return list(batches)


def same(one: list[Batch], two: list[Batch]) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a, b)
        for x, y in zip(one, two, strict=True)
        for a, b in zip(x[:2], y[:2], strict=True)
    )


class TestTraining:
    def test_shapes(self, plain_data: Data) -> None:
        batches = training_batches(plain_data, recipe(), TASK)
        images, masks, _ = next(iter(batches))
        assert (images.shape, masks.shape) == ((4, 3, 32, 32), (4, 32, 32))
        assert images.dtype == masks.dtype == torch.uint8
        assert len(list(batches)) == len(batches) == 2

    def test_seed_and_epoch_decide(self, plain_data: Data) -> None:
        assert same(epoch(plain_data, 3), epoch(plain_data, 3))
        assert not same(epoch(plain_data, 3), epoch(plain_data, 4))

    def test_workers_change_nothing(self, plain_data: Data) -> None:
        batches = training_batches(plain_data, recipe(), TASK, workers=2)
        for number in (1, 2):
            batches.set_epoch(number)
            assert same(list(batches), epoch(plain_data, number))

    def test_ranks_share_the_same_images(self, plain_data: Data) -> None:
        whole = epoch(plain_data, 1)
        ranks = [epoch(plain_data, 1, rank=rank, world=2) for rank in range(2)]
        assert len(ranks[0]) == len(ranks[1]) == len(whole)
        for (images, masks, _), first, second in zip(whole, *ranks, strict=True):
            assert torch.equal(images[0::2], first[0])
            assert torch.equal(images[1::2], second[0])
            assert torch.equal(masks[0::2], first[1])

    def test_global_random_numbers_are_left_alone(self, plain_data: Data) -> None:
        torch.manual_seed(1)
        expected = torch.rand(3)
        torch.manual_seed(1)
        epoch(plain_data, 1)
        assert torch.equal(torch.rand(3), expected)

    def test_fewer_images_than_a_batch(self, plain_data: Data) -> None:
        batches = training_batches(plain_data, recipe(batch_size=16), TASK)
        images = next(iter(batches)).images
        assert (len(batches), len(images)) == (1, 16)
        assert len({image.numpy().tobytes() for image in images}) == 16

    def test_batch_that_leaves_a_rank_without_an_image(self, plain_data: Data) -> None:
        with pytest.raises(ConfigError, match="batch_size 4 is less than one image for each of 3"):
            training_batches(plain_data, recipe(accumulation=2), TASK, world=3)

    def test_live_values(self, plain_data: Data) -> None:
        chosen = recipe(augment_strength=0.7, crop_size=64)
        live = training_batches(plain_data, chosen, TASK).live_values()
        for key, value in live.items():
            assert value == pytest.approx(getattr(chosen, key))
        assert {"augment_strength", "batch_size", "crop_size"} <= set(live)


@pytest.mark.parametrize(
    ("count", "batch", "world"), [(10, 4, 1), (10, 4, 2), (7, 3, 2), (2, 8, 4)]
)
def test_order_shows_every_image_and_fills_the_last_batch(
    count: int, batch: int, world: int
) -> None:
    orders = [list(Order(count, batch, 0, rank, world)) for rank in range(world)]
    steps = -(-count // batch)
    assert {len(order) for order in orders} == {steps}
    keys = [key for order in orders for part in order for key in part]
    assert len(keys) == len(set(keys)) == steps * batch
    shown = Counter(position for _, position, _ in keys)
    assert set(shown) == set(range(count))
    assert max(shown.values()) - min(shown.values()) <= 1


class TestValidation:
    @pytest.mark.parametrize("world", [1, 2, 3])
    def test_every_image_once_over_ranks(self, plain_data: Data, world: int) -> None:
        seen = [
            index
            for rank in range(world)
            for batch in validation_batches(plain_data, recipe(), rank, world)
            for index in batch.indices
        ]
        assert sorted(seen) == sorted(plain_data.indices("val"))

    def test_images_are_resized_and_padded(self, plain_data: Data) -> None:
        for batch in validation_batches(plain_data, recipe(image_size=40)):
            height, width = batch.size
            assert max(height, width) == 40
            assert batch.images.shape == (len(batch), 3, 64, 64)
            assert (batch.labels[:, height:] == 255).all()
            assert (batch.labels[:, :, width:] == 255).all()
            assert (batch.labels[:, :height, :width] != 255).any()

    def test_native_size_is_exact(self, plain_data: Data) -> None:
        cache = plain_data.cache
        for batch in validation_batches(plain_data, recipe(image_size=None)):
            for index, image, logits in zip(
                batch.indices, batch.images, batch.native(batch.images), strict=True
            ):
                height, width = cache.shape(index)
                expected = cache.image(index).transpose(2, 0, 1)
                np.testing.assert_array_equal(image[:, :height, :width], expected)
                np.testing.assert_array_equal(logits[1][0], expected)
                np.testing.assert_array_equal(logits[2], cache.mask(index))

    def test_logits_come_back_at_native_size(self, plain_data: Data) -> None:
        for batch in validation_batches(plain_data, recipe(image_size=64)):
            logits = torch.nn.functional.one_hot(batch.labels.long() % 255, 3).permute(0, 3, 1, 2)
            for index, native, mask in batch.native(logits.to(torch.bfloat16)):
                assert native.shape == (1, 3, *plain_data.cache.shape(index))
                assert mask.shape == plain_data.cache.shape(index)
                known = mask != 255
                assert (native.argmax(1)[0] == mask)[known].float().mean() > 0.95

    def test_targets(self, plain_data: Data) -> None:
        batch = next(iter(validation_batches(plain_data, recipe())))
        masks = batch.targets((len(batch), 3, *batch.images.shape[-2:]), torch.device("cpu"))
        assert masks.dtype == torch.int64
        with pytest.raises(ValueError, match="logits are"):
            batch.targets((1, 3, 5, 5), torch.device("cpu"))

    def test_workers_change_nothing(self, plain_data: Data) -> None:
        pairs = zip(
            validation_batches(plain_data, recipe()),
            validation_batches(plain_data, recipe(), workers=1),
            strict=True,
        )
        for one, two in pairs:
            assert one.indices == two.indices
            assert torch.equal(one.images, two.images)


class TestOpenData:
    def test_pickles_small(self, plain_data: Data) -> None:
        copy = pickle.loads(pickle.dumps(plain_data))
        assert copy.indices("train") == plain_data.indices("train")
        assert copy.digest == plain_data.digest

    def test_class_frequency(self, plain_data: Data) -> None:
        frequency = plain_data.class_frequency
        masks = [plain_data.cache.mask(index) for index in plain_data.indices("train")]
        pixels = np.concatenate([mask.ravel() for mask in masks])
        expected = np.bincount(pixels, minlength=256)[:3] / (pixels != 255).sum()
        np.testing.assert_allclose(frequency, expected)

    def test_duplicate_across_lists(self, odd_root: Path, tmp_path: Path) -> None:
        data = open_data(config(), odd_root, tmp_path, seed=0)
        assert data.splits.dropped == ("dog/001",)
        assert data.splits.test == ("cat/006", "cat/007", "dog/006", "dog/007")
        official = open_data(config(splits="official"), odd_root, tmp_path, seed=0)
        assert len(official.splits.train) == 12
        assert official.digest == data.digest
