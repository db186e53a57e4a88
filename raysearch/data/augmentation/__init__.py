"""One knob for augmentation: strength 0 is none, 1 the documented set, 2 twice as much."""

import os
import random
from typing import Any

import numpy as np

from raysearch.config import Recipe, Task

# Without it every loader worker asks the internet for a newer version when it starts.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A

from raysearch.data.augmentation import classification, segmentation


def augmentation(recipe: Recipe, task: Task, eight_bit: bool = True) -> A.Compose:
    """Return the transforms of a recipe: whole images to the squares that networks train on.

    Args:
        eight_bit: whether images are uint8. Values of other types have no known range, so that
            only their places are changed.
    """
    made = segmentation if task.segments else classification
    return made.augmentation(recipe, task, eight_bit)


def describe(compose: A.Compose, task: Task) -> dict[str, Any]:
    """Read back what a composition does, by the recipe's names where it has them."""
    return (segmentation if task.segments else classification).describe(compose)


def reseed(compose: A.Compose, *entropy: int) -> None:
    """Start the random numbers of all transforms anew: same numbers, same result.

    The transforms draw in turn from one generator. Compose.set_random_seed gives each of them a
    generator with the same seed, so that all would be applied to the same images.
    """
    words = np.random.SeedSequence(entropy).generate_state(4)
    generator = np.random.default_rng(words)
    python = random.Random(int(words[0]) << 32 | int(words[1]))
    for transform in compose.transforms:
        transform.set_random_state(generator, python)
