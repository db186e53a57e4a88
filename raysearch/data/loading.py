"""Training batches whose numbers depend on seed, epoch and sample alone.

Neither the number of loader workers nor that of ranks, nor a resume, changes what an epoch holds.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from raysearch.config import Recipe, Task
from raysearch.data.augmentation import augmentation, describe, reseed
from raysearch.data.batch import Batch, as_tensor, collate
from raysearch.data.cache import Cache
from raysearch.data.dataset import Data
from raysearch.errors import ConfigError

Key = tuple[int, int, int]


class TrainingSet(Dataset[Batch]):
    """Augmented training images from the cache.

    A key is (epoch, position, repeat): the position among the indices, and how often the epoch
    has shown that image before. It seeds the augmentation, together with the recipe's seed.
    Images keep the cache's type until they are cut: a whole one in float32 takes twice the room.
    """

    def __init__(self, cache: Cache, indices: Sequence[int], recipe: Recipe, task: Task) -> None:
        self.cache, self.indices, self.task, self.seed = cache, indices, task, recipe.seed
        self.weighted = recipe.pixel_weights and cache.weighted
        self.transform = augmentation(recipe, task, cache.dtype == np.uint8)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Key) -> Batch:
        """Return one image (C, S, S) with its target, a mask (S, S) or a class id ()."""
        epoch, position, repeat = key
        index = self.indices[position]
        reseed(self.transform, self.seed, epoch, index, repeat)
        image = self.cache.image(index)
        if not self.task.segments:
            label = torch.tensor(self.cache.label(index))
            return Batch(as_tensor(self.transform(image=image)["image"]), label)
        masks = {"mask": self.cache.mask(index)}
        if self.weighted:
            masks["weight"] = self.cache.weight(index)
        result = self.transform(image=image, **masks)
        mask, weight = (
            torch.from_numpy(np.ascontiguousarray(result[name])) if name in masks else None
            for name in ("mask", "weight")
        )
        assert mask is not None
        return Batch(as_tensor(result["image"]), mask, weight)


class Order:
    """Keys of each batch of one rank, shuffled anew each epoch.

    The last batch is filled from the beginning of the epoch's order, so that every batch is full
    and ranks take equally many; a repeated image gets an augmentation of its own.
    """

    def __init__(self, count: int, batch_size: int, seed: int, rank: int, world: int) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.rank, self.world = rank, world
        self.epoch, self.step = 1, 0

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.count)
        for step in range(self.step, len(self)):
            first = step * self.batch_size
            places = range(first + self.rank, first + self.batch_size, self.world)
            yield [(self.epoch, int(order[p % self.count]), p // self.count) for p in places]


class TrainingBatches:
    """Batches of one rank, squares of S x S pixels.

    A batch holds the rank's share of the recipe's batch size, micro-batches of accumulation
    included. Call `set_epoch` before each epoch.
    """

    def __init__(
        self,
        dataset: TrainingSet,
        order: Order,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.dataset, self.order = dataset, order
        cv2.setNumThreads(0)
        self.loader = DataLoader(
            dataset,
            batch_sampler=order,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
            worker_init_fn=one_thread,
            # Its own, so that loading leaves the random numbers of the training alone.
            generator=torch.Generator(),
        )

    def set_epoch(self, epoch: int, step: int = 0) -> None:
        """Choose the epoch that the next iteration gives, without its first steps."""
        self.order.epoch, self.order.step = epoch, step

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        yield from self.loader

    def live_values(self) -> dict[str, Any]:
        """Return what the batches are made with, by the recipe's names."""
        made = describe(self.dataset.transform, self.dataset.task)
        named = {name: value for name, value in made.items() if name in Recipe.model_fields}
        return {"batch_size": self.order.batch_size, **named}


def one_thread(_worker: int) -> None:
    """Keep a loader worker on its one core."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def training_batches(
    data: Data,
    recipe: Recipe,
    task: Task,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
) -> TrainingBatches:
    """Return the training batches of one rank.

    Args:
        workers: loader processes; 0 loads in the calling process.
        pin_memory: for batches that go to a CUDA device.

    Raises:
        ConfigError: a batch that leaves a rank without an image, or pixel weights asked for where
            the data set has none.
    """
    if recipe.pixel_weights and not data.cache.weighted:
        raise ConfigError("pixel_weights: the data set says nothing of confidence; set it to false")
    if recipe.batch_size < world * recipe.accumulation:
        raise ConfigError(
            f"batch_size {recipe.batch_size} is less than one image for each of {world} workers "
            f"and {recipe.accumulation} accumulated parts; raise batch_size, or take fewer of them"
        )
    dataset = TrainingSet(data.cache, data.indices("train"), recipe, task)
    order = Order(len(dataset), recipe.batch_size, recipe.seed, rank, world)
    return TrainingBatches(dataset, order, workers, pin_memory)
