"""Images and masks together, at one strength.

At strength 1: rotation to 30 degrees, scale 0.8-1.25, flip, brightness, contrast and saturation
0.8-1.2, elastic deformation of alpha 100 and sigma 10 at 512 pixels, each on half the images.
Probabilities and magnitudes grow together with the strength; masks are always nearest. Quarter
turns are asked for by themselves.
"""

from typing import Any

import albumentations as A
import cv2
import numpy as np
from albumentations.core.transforms_interface import DualTransform, ImageOnlyTransform
from numpy.typing import NDArray

from raysearch.config import Recipe, Task
from raysearch.data.resize import by_fours, fitted, resize_image, resize_mask

DEGREES = 30.0
SCALE = 1.25
JITTER = 0.2
ELASTIC_ALPHA, ELASTIC_SIGMA, ELASTIC_SIZE = 100.0, 10.0, 512
PROBABILITY = 0.5

Pixels = NDArray[Any]


class Resize(DualTransform):  # type: ignore[misc, unused-ignore]
    """Resize so that the longer side is long_side; None keeps the size."""

    def __init__(self, long_side: int | None) -> None:
        super().__init__(p=1.0)
        self.long_side = long_side

    def apply(self, img: Pixels, **params: Any) -> Pixels:
        return resize_image(img, fitted(img.shape, self.long_side))

    def apply_to_mask(self, mask: Pixels, **params: Any) -> Pixels:
        return resize_mask(mask, fitted(mask.shape, self.long_side))


class QuarterTurns(DualTransform):  # type: ignore[misc, unused-ignore]
    """One of the eight ways to lay a square, for pictures taken from above: any number of bands.

    Whatever the strength: nothing is lost by it.
    """

    def __init__(self) -> None:
        super().__init__(p=1.0)

    def get_params(self) -> dict[str, Any]:
        return {"turns": self.py_random.randrange(4), "mirrored": self.py_random.random() < 0.5}

    def apply(self, img: Pixels, **params: Any) -> Pixels:
        turned = np.rot90(img, params["turns"])
        return np.ascontiguousarray(turned[::-1] if params["mirrored"] else turned)

    def apply_to_mask(self, mask: Pixels, **params: Any) -> Pixels:
        return self.apply(mask, **params)


class WarpCrop(DualTransform):  # type: ignore[misc, unused-ignore]
    """Cut a square at a random place, turned and scaled on the way: one interpolation.

    Beyond the image's edge the picture is mirrored and the mask ignored.

    Args:
        size: side of the square.
        degrees: the angle is uniform in -degrees..degrees.
        scale: the factor is log-uniform in 1/scale..scale.
        ignore_index: id of mask pixels beyond the edge.
        probability: of turning and scaling; the cut is always made.
    """

    def __init__(
        self, size: int, degrees: float, scale: float, ignore_index: int, probability: float
    ) -> None:
        super().__init__(p=1.0)
        self.size, self.degrees, self.scale = size, degrees, scale
        self.ignore_index, self.probability = ignore_index, probability

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        height, width = params["shape"][:2]
        angle, scale = 0.0, 1.0
        if self.py_random.random() < self.probability:
            angle = np.deg2rad(self.py_random.uniform(-self.degrees, self.degrees))
            scale = self.scale ** self.py_random.uniform(-1, 1)
        top, left = (self._place(side, scale) for side in (height, width))
        if angle == 0 and scale == 1:
            return {"matrix": None, "top": round(top), "left": round(left)}
        half = self.size / 2
        cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
        # Maps the centres of the square's pixels to the image (OpenCV's inverse map).
        middle = half - 0.5
        across, down = left + half / scale - 0.5, top + half / scale - 0.5
        matrix = np.array(
            [
                [cos, -sin, across - (cos - sin) * middle],
                [sin, cos, down - (sin + cos) * middle],
            ]
        )
        return {"matrix": matrix}

    def _place(self, side: int, scale: float) -> float:
        """Return where the window begins along one side: anywhere inside, or centred on it."""
        room = side - self.size / scale
        return self.py_random.uniform(0, room) if room > 0 else room / 2

    def apply(self, img: Pixels, **params: Any) -> Pixels:
        if params["matrix"] is None:
            window, margins = self._window(img, params)
            border = {"borderType": cv2.BORDER_REFLECT_101}
            return by_fours(lambda part: cv2.copyMakeBorder(part, *margins, **border), window)
        return by_fours(
            lambda part: self._warp(part, params, cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101), img
        )

    def apply_to_mask(self, mask: Pixels, **params: Any) -> Pixels:
        if params["matrix"] is None:
            window, margins = self._window(mask, params)
            filled: Pixels = cv2.copyMakeBorder(
                window, *margins, cv2.BORDER_CONSTANT, value=self.ignore_index
            )
            return filled
        return self._warp(mask, params, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)

    def _window(
        self, pixels: Pixels, params: dict[str, Any]
    ) -> tuple[Pixels, tuple[int, int, int, int]]:
        """Return the part of the square that lies inside, and its margins (t, b, l, r)."""
        height, width = pixels.shape[:2]
        top, left = params["top"], params["left"]
        bottom, right = top + self.size, left + self.size
        inside = pixels[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
        margins = max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0)
        return inside, margins

    def _warp(self, pixels: Pixels, params: dict[str, Any], how: int, border: int) -> Pixels:
        if pixels.dtype == np.int16:
            # OpenCV places int16 to 1/32 of a pixel only, but uint16 exactly.
            return _moved(self._warp(_moved(pixels), params, how, border))
        warped: Pixels = cv2.warpAffine(
            pixels,
            params["matrix"],
            (self.size, self.size),
            flags=how | cv2.WARP_INVERSE_MAP,
            borderMode=border,
            borderValue=self.ignore_index,
        )
        return warped


def _moved(pixels: Pixels) -> Pixels:
    """Return int16 as uint16, moved up by 32768, or the other way round."""
    other = {np.dtype(np.int16): np.uint16, np.dtype(np.uint16): np.int16}[pixels.dtype]
    return (pixels.view(np.uint16) ^ np.uint16(1 << 15)).view(other)


class AsFloat(ImageOnlyTransform):  # type: ignore[misc, unused-ignore]
    """Whole numbers as float32, which albumentations deforms without steps between pixels."""

    def __init__(self) -> None:
        super().__init__(p=1.0)

    def apply(self, img: Pixels, **params: Any) -> Pixels:
        return img.astype(np.float32)


def augmentation(recipe: Recipe, task: Task, eight_bit: bool = True) -> A.Compose:
    """Return the transforms of a recipe: image (H, W, C) and mask (H, W) to squares of crop_size.

    Saturation and the like make sense for colours only: images of other than three bands, and of
    another type than uint8, keep their values.
    """
    strength = recipe.augment_strength
    share = min(1.0, PROBABILITY * strength)
    transforms: list[Any] = [
        Resize(recipe.image_size),
        WarpCrop(recipe.crop_size, DEGREES * strength, SCALE**strength, task.ignore_index, share),
        A.HorizontalFlip(p=min(0.5, share)),
    ]
    if recipe.quarter_turns:
        transforms.append(QuarterTurns())
    if recipe.elastic and not eight_bit:
        transforms.append(AsFloat())
    if recipe.elastic:
        transforms.append(_elastic(recipe, task, share))
    if task.bands == 3 and eight_bit:
        factor = (1 - JITTER * strength, 1 + JITTER * strength)
        transforms.append(
            A.ColorJitter(brightness=factor, contrast=factor, saturation=factor, hue=0, p=share)
        )
    return A.Compose(transforms, additional_targets={"weight": "mask"})


def _elastic(recipe: Recipe, task: Task, share: float) -> Any:
    """Return the deformation that at 512 pixels has alpha 100 and sigma 10.

    At other sizes it looks the same: shifts, which are proportional to alpha / sigma, and their
    smoothness keep their share of the crop. Below 51 pixels sigma stays at 1, the least possible.
    """
    ratio = recipe.crop_size / ELASTIC_SIZE
    sigma = max(1.0, ELASTIC_SIGMA * ratio)
    return A.ElasticTransform(
        alpha=ELASTIC_ALPHA / ELASTIC_SIGMA * sigma * ratio * recipe.augment_strength,
        sigma=sigma,
        border_mode=cv2.BORDER_REFLECT_101,
        fill_mask=task.ignore_index,
        p=share,
    )


def describe(compose: A.Compose) -> dict[str, Any]:
    """Read back what a composition does: sizes, strength, magnitudes and probabilities."""
    parts = {type(transform).__name__: transform for transform in compose.transforms}
    warp = parts["WarpCrop"]
    values = {
        "image_size": parts["Resize"].long_side,
        "crop_size": warp.size,
        "augment_strength": warp.degrees / DEGREES,
        "elastic": "ElasticTransform" in parts,
        "quarter_turns": "QuarterTurns" in parts,
        "rotation": warp.degrees,
        "scale": warp.scale,
        "warp_probability": warp.probability,
        "flip_probability": parts["HorizontalFlip"].p,
    }
    if jitter := parts.get("ColorJitter"):
        values |= {
            "brightness": jitter.brightness,
            "contrast": jitter.contrast,
            "saturation": jitter.saturation,
            "jitter_probability": jitter.p,
        }
    if elastic := parts.get("ElasticTransform"):
        values |= {
            "elastic_alpha": elastic.alpha,
            "elastic_sigma": elastic.sigma,
            "elastic_probability": elastic.p,
        }
    return values
