"""Augmentation of classified images: whole images to squares of image_size.

At strength 1 it is the list of the food strategy: random resized crop (8-100 % of the area, sides
3:4 to 4:3), horizontal flip, colour jitter 0.2, shift-scale-rotate (1/16, 0.1, 45 degrees),
brightness and contrast 0.3, hue, saturation and value 20, 30 and 20, noise of variance 10-50, blur
of 3-7 pixels, gamma 80-120, and 8 black holes of 32 pixels. Where the document names a transform
without its values, they are albumentations' own, but colour jitter leaves the hue to the transform
after it. Pixels are those of an image of 224; at other sizes holes and blur keep their share of it.
"""

import math
import os
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.config import Recipe, Task
from raysearch.config.study import EVALUATED
from raysearch.data.resize import resize_image

# Without it every loader worker asks the internet for a newer version when it starts.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
from albumentations.core.transforms_interface import ImageOnlyTransform

SIZE = 224

LEAST_AREA, WIDEST = 0.08, 4 / 3
SHIFT, ZOOM, DEGREES = 1 / 16, 0.1, 45.0
JITTER = 0.2
BRIGHTNESS = 0.3
HUE, SATURATION, VALUE = 20, 30, 20
LEAST_NOISE, MOST_NOISE = math.sqrt(10) / 255, math.sqrt(50) / 255
# What a Gaussian kernel of 3 and of 7 pixels has for its standard deviation in OpenCV.
LEAST_BLUR, MOST_BLUR = 0.8, 1.4
GAMMA = 20
HOLES, HOLE_SIDE = 8, 32
# Of each transform at strength 1.
HALF, THIRD = 0.5, 0.3

Pixels = NDArray[Any]


def for_evaluation(image: Pixels, size: int) -> Pixels:
    """Return the middle of an image (H, W, C) as a square (size, size, C), for validation.

    The shorter side becomes size / 0.875, so that the square holds 7/8 of it; areas are averaged
    where the image shrinks.
    """
    shorter = round(size / EVALUATED)
    scale = shorter / min(image.shape[:2])
    height, width = (max(shorter, round(side * scale)) for side in image.shape[:2])
    resized = resize_image(image, (height, width))
    top, left = (height - size) // 2, (width - size) // 2
    return np.ascontiguousarray(resized[top : top + size, left : left + size])


class Middle(ImageOnlyTransform):  # type: ignore[misc, unused-ignore]
    """What validation sees of an image: the crop without augmentation."""

    def __init__(self, size: int) -> None:
        super().__init__(p=1.0)
        self.size = (size, size)

    def apply(self, img: Pixels, **params: Any) -> Pixels:
        return for_evaluation(img, self.size[0])


def augmentation(recipe: Recipe, task: Task, eight_bit: bool = True) -> A.Compose:
    """Return the transforms of a recipe: image (H, W, C) to (S, S, C), S the recipe's image_size.

    Probabilities and magnitudes grow together with the strength; at 0 the middle of the image is
    left as validation sees it. Hue and saturation make sense for colours only: images of other
    than three bands keep them. Values of another type than uint8 have no known range: such images
    are cropped, flipped, shifted, scaled and rotated, and keep their values.
    """
    strength, size = recipe.augment_strength, recipe.image_size or SIZE
    half = min(1.0, HALF * strength)
    geometry = [
        _crop(strength, size),
        A.HorizontalFlip(p=min(0.5, half)),
        A.Affine(
            scale=(1 - ZOOM * strength, 1 + ZOOM * strength),
            translate_percent=(-SHIFT * strength, SHIFT * strength),
            rotate=(-DEGREES * strength, DEGREES * strength),
            border_mode=cv2.BORDER_REFLECT_101,
            p=half,
        ),
    ]
    return A.Compose([*geometry, *(_values(strength, size, task.bands) if eight_bit else [])])


def _values(strength: float, size: int, bands: int) -> list[Any]:
    """Return the transforms that change values of 8 bits."""
    half, third = min(1.0, HALF * strength), min(1.0, THIRD * strength)
    bright = BRIGHTNESS * strength
    return [
        A.RandomBrightnessContrast(brightness_limit=bright, contrast_limit=bright, p=half),
        *(_colours(strength, half) if bands == 3 else []),
        A.RandomGamma(gamma_limit=(100 - GAMMA * strength, 100 + GAMMA * strength), p=third),
        _blur(strength, size, third),
        A.GaussNoise(std_range=(LEAST_NOISE * strength, MOST_NOISE * strength), p=third),
        _holes(strength, size, half),
    ]


def _crop(strength: float, size: int) -> Any:
    if strength == 0:
        return Middle(size)
    return A.RandomResizedCrop(
        size=(size, size),
        scale=(max(LEAST_AREA, 1 - (1 - LEAST_AREA) * strength), 1.0),
        ratio=(WIDEST**-strength, WIDEST**strength),
        area_for_downscale="image",
    )


def _colours(strength: float, probability: float) -> list[Any]:
    factor = (1 - JITTER * strength, 1 + JITTER * strength)
    return [
        A.ColorJitter(brightness=factor, contrast=factor, saturation=factor, hue=0, p=probability),
        A.HueSaturationValue(
            hue_shift_limit=HUE * strength,
            sat_shift_limit=SATURATION * strength,
            val_shift_limit=VALUE * strength,
            p=probability,
        ),
    ]


def _blur(strength: float, size: int, probability: float) -> Any:
    """Return the blur that at 224 pixels has a kernel of 3-7; the kernel follows from sigma."""
    ratio = strength * size / SIZE
    sigma = (LEAST_BLUR * ratio, MOST_BLUR * ratio)
    return A.GaussianBlur(blur_limit=0, sigma_limit=sigma, p=probability)


def _holes(strength: float, size: int, probability: float) -> Any:
    """Return 8 holes of 1/7 of the side, or more of them where the strength is above 1."""
    count = max(1, round(HOLES * strength))
    side = max(1, round(HOLE_SIDE * size / SIZE))
    return A.CoarseDropout(
        num_holes_range=(count, count),
        hole_height_range=(side, side),
        hole_width_range=(side, side),
        fill=0,
        p=probability,
    )


def describe(compose: A.Compose) -> dict[str, Any]:
    """Read back what a composition does: size, strength, magnitudes and probabilities."""
    parts = {type(transform).__name__: transform for transform in compose.transforms}
    crop = compose.transforms[0]
    affine = parts["Affine"]
    values = {
        "image_size": crop.size[0],
        "augment_strength": affine.rotate[1] / DEGREES,
        "least_area": crop.scale[0] if "RandomResizedCrop" in parts else None,
        "flip_probability": parts["HorizontalFlip"].p,
        "rotation": affine.rotate[1],
        "affine_probability": affine.p,
    }
    if light := parts.get("RandomBrightnessContrast"):
        holes = parts["CoarseDropout"]
        values |= {
            "brightness": light.brightness_limit,
            "contrast": light.contrast_limit,
            "brightness_probability": light.p,
            "gamma": parts["RandomGamma"].gamma_limit,
            "gamma_probability": parts["RandomGamma"].p,
            "blur": parts["GaussianBlur"].sigma_limit,
            "blur_probability": parts["GaussianBlur"].p,
            "noise": parts["GaussNoise"].std_range,
            "noise_probability": parts["GaussNoise"].p,
            "holes": holes.num_holes_range[1],
            "hole_side": holes.hole_height_range[1],
            "holes_probability": holes.p,
        }
    if jitter := parts.get("ColorJitter"):
        colours = parts["HueSaturationValue"]
        values |= {
            "jitter": jitter.brightness,
            "jitter_probability": jitter.p,
            "hue": colours.hue_shift_limit,
            "saturation": colours.sat_shift_limit,
            "value": colours.val_shift_limit,
            "colour_probability": colours.p,
        }
    return values
