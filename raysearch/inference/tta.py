"""Test-time augmentation: an image asked about in several views, the answers turned back.

A view has a name of parts that follow each other, joined by "+": "flip_horizontal", "turn_90",
"scale_0.75", "brightness_1.1", or "turn_90+scale_1.25". So a model names its views in plain text,
those that were drawn at random too, and is asked about the same ones ever after.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor

from raysearch.errors import ConfigError, closest


@dataclass(frozen=True)
class Transform:
    """A change of images (..., h, w), and the one that takes it back from logits.

    Attributes:
        scale: the factor by which the network sees the image larger; its logits are brought to the
            image's own size, so that there is nothing to take back.
    """

    apply: Callable[[Tensor], Tensor]
    undo: Callable[[Tensor], Tensor]
    scale: float = 1.0


def _same(images: Tensor) -> Tensor:
    return images


def _turn(quarters: int) -> Transform:
    """Turn counter-clockwise; one quarter and three exchange height and width."""
    there, back = (partial(torch.rot90, k=k, dims=(-2, -1)) for k in (quarters, -quarters))
    return Transform(there, back)


def _flip(dim: int) -> Transform:
    flip = partial(torch.flip, dims=(dim,))
    return Transform(flip, flip)


def _brighten(images: Tensor, factor: float) -> Tensor:
    brighter = images.float() * factor
    eight_bit = images.dtype == torch.uint8
    return brighter.round().clamp(0, 255).to(torch.uint8) if eight_bit else brighter


IDENTITY = "identity"
TRANSFORMS = {
    IDENTITY: Transform(_same, _same),
    "flip_horizontal": _flip(-1),
    "flip_vertical": _flip(-2),
    "turn_90": _turn(1),
    "turn_180": _turn(2),
    "turn_270": _turn(3),
}
# Names with a number at their end, and the numbers that make sense.
NUMBERED: dict[str, tuple[Callable[[float], Transform], float, float]] = {
    "scale": (lambda factor: Transform(_same, _same, factor), 0.25, 4.0),
    "brightness": (lambda f: Transform(partial(_brighten, factor=f), _same), 0.25, 4.0),
}
# What is tried on validation images, the cheapest first.
SETS: tuple[tuple[str, ...], ...] = (
    (IDENTITY, "flip_horizontal"),
    (IDENTITY, "flip_horizontal", "flip_vertical", "turn_180"),
    tuple(TRANSFORMS),
)
# Of random views: as training has them at strength 1.
SCALE, JITTER = 1.25, 0.2


@lru_cache(maxsize=1024)
def transform(name: str) -> Transform:
    """Return the view of a name.

    Raises:
        ConfigError: a part of it is unknown, or its number makes no sense.
    """
    parts = [_part(part) for part in name.split("+")]
    if len(parts) == 1:
        return parts[0]
    scale = 1.0
    for part in parts:
        scale *= part.scale
    there = [part.apply for part in parts]
    back = [part.undo for part in reversed(parts)]
    return Transform(partial(_chain, steps=there), partial(_chain, steps=back), scale)


def _chain(images: Tensor, steps: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    for step in steps:
        images = step(images)
    return images


def _part(name: str) -> Transform:
    if name in TRANSFORMS:
        return TRANSFORMS[name]
    kind, _, number = name.rpartition("_")
    if kind not in NUMBERED:
        known = [*TRANSFORMS, *(f"{one}_1.1" for one in NUMBERED)]
        raise ConfigError(f"tta: '{name}' is unknown. {closest(name, known)}")
    make, low, high = NUMBERED[kind]
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if not low <= value <= high:
        raise ConfigError(f"tta: '{name}': {kind} must be a number from {low:g} to {high:g}")
    return make(value)


def cost(names: Sequence[str]) -> float:
    """Return what views cost, in asking about one image at its own scale: their areas' sum."""
    return sum(transform(name).scale ** 2 for name in names)


@dataclass(frozen=True)
class Views:
    """Which views are tried beside the fixed sets.

    Attributes:
        scales: factors, such as (0.75, 1.25); tried alone and mirrored.
        draws: how many random views are averaged with the image as it is.
        seed: of these.
    """

    scales: tuple[float, ...] = ()
    draws: int = 0
    seed: int = 0

    def sets(self, turned: bool = False, coloured: bool = False) -> list[tuple[str, ...]]:
        """Return the sets of views to try, the fixed ones first.

        Args:
            turned: whether random views are turned by quarters.
            coloured: whether their brightness changes.
        """
        found = list(SETS)
        if self.scales:
            scaled = [f"scale_{factor:g}" for factor in self.scales]
            mirrored = [f"flip_horizontal+{name}" for name in scaled]
            found += [(IDENTITY, *scaled), (*SETS[0], *scaled, *mirrored)]
        if self.draws:
            found.append((IDENTITY, *self._drawn(turned, coloured)))
        return found

    def _drawn(self, turned: bool, coloured: bool) -> list[str]:
        """Names of random views, no two alike."""
        source, names = random.Random(self.seed), dict[str, None]()
        while len(names) < self.draws:
            parts = ["flip_horizontal"] if source.random() < 0.5 else []
            if turned and (quarters := source.randrange(4)):
                parts.append(f"turn_{90 * quarters}")
            parts.append(f"scale_{SCALE ** source.uniform(-1, 1):.3f}")
            if coloured:
                parts.append(f"brightness_{source.uniform(1 - JITTER, 1 + JITTER):.3f}")
            names["+".join(parts)] = None
        return list(names)
