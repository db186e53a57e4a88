"""Test-time augmentation: an image asked about in several positions, the answers turned back."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor


@dataclass(frozen=True)
class Transform:
    """A change of images (..., h, w), and the one that takes it back."""

    apply: Callable[[Tensor], Tensor]
    undo: Callable[[Tensor], Tensor]


def _same(images: Tensor) -> Tensor:
    return images


def _turn(quarters: int) -> Transform:
    """Turn counter-clockwise; one quarter and three exchange height and width."""
    there, back = (partial(torch.rot90, k=k, dims=(-2, -1)) for k in (quarters, -quarters))
    return Transform(there, back)


def _flip(dim: int) -> Transform:
    flip = partial(torch.flip, dims=(dim,))
    return Transform(flip, flip)


IDENTITY = "identity"
TRANSFORMS = {
    IDENTITY: Transform(_same, _same),
    "flip_horizontal": _flip(-1),
    "flip_vertical": _flip(-2),
    "turn_90": _turn(1),
    "turn_180": _turn(2),
    "turn_270": _turn(3),
}
# What is tried on validation images, the cheapest first.
SETS: tuple[tuple[str, ...], ...] = (
    (IDENTITY, "flip_horizontal"),
    (IDENTITY, "flip_horizontal", "flip_vertical", "turn_180"),
    tuple(TRANSFORMS),
)
