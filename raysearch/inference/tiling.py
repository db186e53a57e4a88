"""Ask a model for images of any size, a band of rows at a time.

Networks that see images at their own size are asked for overlapping tiles, whose answers are
blended with a smooth window; networks that see them reduced are asked once, and their answer is
brought to the image's size row by row. So memory does not grow with an image's height, but for its
mask; and of a `Scene`, which stays on the disk, no more is read at once than a row of tiles.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from raysearch.data.batch import as_tensor
from raysearch.data.resize import by_fours
from raysearch.data.validation import STRIDE
from raysearch.errors import ConfigError
from raysearch.inference.models import Model, network_logits, seen_size, view
from raysearch.inference.postprocess import postprocess
from raysearch.inference.scenes import Scene
from raysearch.inference.tta import transform
from raysearch.training.trained import Trained

TILE = 512
OVERLAP = 3 / 8  # 1 / 4 would save 30 % of the time, and twice as many pixels would differ.
# Probabilities of a band of rows, of all images and classes together.
BAND_VALUES = 8_000_000

Pixels = NDArray[Any]
Images = Sequence[Pixels] | Sequence[Pixels | Scene]
Seen = Callable[[int, Tensor], None]


@dataclass(frozen=True)
class Window:
    """Rows or columns from start to stop, and what their answer counts at each, (stop - start,)."""

    start: int
    stop: int
    weight: NDArray[np.float32]


def windows(length: int, tile: int) -> list[Window]:
    """Return overlapping windows over a length, whose weights sum to 1 at each place.

    Weights fall to the edges as a squared sine, but not to the ends of the whole. Every window
    begins at a multiple of 32, so that networks reduce the same pixels to one in all of them; the
    last reaches to the end, or up to 31 pixels beyond it.
    """
    if length <= tile:
        return [Window(0, length, np.ones(length, np.float32))]
    overlap = _multiple(tile * OVERLAP)
    last = _multiple(length - tile)
    starts = [*range(0, last, tile - overlap), last]
    raw = []
    for start in starts:
        stop = min(start + tile, length)
        places = np.arange(start, stop) + 0.5
        before = places - start if start else np.full(stop - start, np.inf)
        after = stop - places if stop < length else np.full(stop - start, np.inf)
        nearest = np.minimum(1, np.minimum(before, after) / overlap)
        raw.append(Window(start, stop, np.sin(math.pi / 2 * nearest) ** 2))
    total = np.zeros(length)
    for one in raw:
        total[one.start : one.stop] += one.weight
    return [
        replace(one, weight=(one.weight / total[one.start : one.stop]).astype(np.float32))
        for one in raw
    ]


def _multiple(length: float) -> int:
    """The least multiple of the networks' stride that is no less."""
    return STRIDE * math.ceil(length / STRIDE)


@torch.inference_mode()
def by_rows(model: Model, images: Images, tile: int | None = None) -> Iterator[tuple[int, Tensor]]:
    """Yield bands of rows of a segmentation from the top down: the first row, (N, K, rows, W).

    Args:
        images: (H, W, C) each as stored, of one size.
        tile: side of the tiles, a multiple of 32. Each is asked as if it were an image of its own,
            by every member. None asks members that see images reduced for the whole, and others
            for tiles of 512 where the image is larger.

    Raises:
        ConfigError: no such tile.
    """
    if tile is not None and (tile < 2 * STRIDE or tile % STRIDE):
        raise ConfigError(f"a tile of {tile} pixels: must be a multiple of 32, from 64 on")
    height, width = images[0].shape[:2]
    pairs = list(zip(model.members, model.weights, strict=True))
    tiled = [one for one in pairs if tile is not None or one[0].recipe.image_size is None]
    whole = [
        (_logits(model, member, images), weight)
        for member, weight in pairs
        if not any(member is other for other, _ in tiled)
    ]
    bands: Iterator[tuple[int, int, Tensor | None]]
    if tiled:
        bands = _tiles(model, tiled, images, tile or TILE)
    else:
        rows = max(1, BAND_VALUES // (len(images) * model.task.num_classes * width))
        edges = [*range(0, height, rows), height]
        bands = ((top, bottom, None) for top, bottom in pairwise(edges))
    for top, bottom, total in bands:
        for logits, weight in whole:
            size = (height, width)
            said = {name: _rows(one, size, top, bottom) for name, one in logits.items()}
            added = weight * model.answer(said)
            total = added if total is None else total.add_(added)
        assert total is not None
        yield top, model.settled(total)


def segment(
    model: Model, images: Images, tile: int | None = None, seen: Seen | None = None
) -> NDArray[np.uint8]:
    """Return masks of class ids, (N, H, W), post-processed as the model says.

    Args:
        images: (H, W, C) each as stored, of one size.
        tile: see `by_rows`.
        seen: called with the first row and the probabilities (N, K, rows, W) of each band.
    """
    height, width = images[0].shape[:2]
    masks = np.zeros((len(images), height, width), np.uint8)
    plain = replace(model, postprocessing={})
    for top, probabilities in by_rows(model, images, tile):
        ids = plain.classes(probabilities)
        masks[:, top : top + ids.shape[1]] = ids.to(torch.uint8).cpu().numpy()
        if seen is not None:
            seen(top, probabilities)
    if model.postprocessing:
        return np.stack([postprocess(mask, model.postprocessing) for mask in masks])
    return masks


def _logits(model: Model, member: Trained, images: Images) -> dict[str, Tensor]:
    """One member's logits at the size that it sees, in each position, turned back."""
    views = {name: transform(name) for name in model.tta}
    largest = max(1.0, *(one.scale for one in views.values()))
    size = seen_size(member, images[0].shape[:2], largest)
    asked = _batch([one.resized(size) if isinstance(one, Scene) else one for one in images])
    return {
        name: one.undo(network_logits(member, one.apply(asked), one.scale))
        for name, one in views.items()
    }


def _batch(images: Sequence[Pixels]) -> Tensor:
    """(N, C, H, W); of one picture of 8 bits no copy is made."""
    first = images[0]
    if len(images) == 1 and first.dtype == np.uint8 and first.flags.writeable:
        return torch.from_numpy(first).permute(2, 0, 1)[None]
    return torch.stack([as_tensor(image) for image in images])


def _rows(logits: Tensor, size: tuple[int, int], top: int, bottom: int) -> Tensor:
    """Rows top to bottom of logits (N, K, h, w) brought to a size, as if all of it were."""
    height, width = size
    if tuple(logits.shape[-2:]) == size:
        return logits[..., top:bottom, :]
    have = logits.shape[-2]
    places = (torch.arange(top, bottom, dtype=torch.float64) + 0.5) * (have / height) - 0.5
    places = places.clamp(min=0)
    first = places.floor().long().clamp(max=have - 1)
    second = (first + 1).clamp(max=have - 1)
    share = (places - first).to(logits.dtype).to(logits.device)[:, None]
    first, second = first.to(logits.device), second.to(logits.device)
    between = torch.lerp(logits[..., first, :], logits[..., second, :], share)
    shape = (bottom - top, width)
    return interpolate(between, shape, mode="bilinear", align_corners=False)


def _tiles(
    model: Model, members: Sequence[tuple[Trained, float]], images: Images, tile: int
) -> Iterator[tuple[int, int, Tensor | None]]:
    """Yield first row, last row and the members' weighted answer, blended from tiles."""
    height, width = images[0].shape[:2]
    down, across = windows(height, tile), windows(width, tile)
    kept: Tensor | None = None
    for number, row in enumerate(down):
        total = _row_of_tiles(model, members, images, row, across, tile)
        if kept is not None:
            total[..., : kept.shape[2], :] += kept
        end = down[number + 1].start if number + 1 < len(down) else height
        yield row.start, end, total[..., : end - row.start, :]
        kept = total[..., end - row.start :, :].clone()


def _row_of_tiles(
    model: Model,
    members: Sequence[tuple[Trained, float]],
    images: Images,
    row: Window,
    across: Sequence[Window],
    tile: int,
) -> Tensor:
    """The weighted answers of tiles side by side, (N, K, rows, W)."""
    height, width = images[0].shape[:2]
    length = row.stop - row.start
    below = tile - length if height > tile else 0
    rows = [image[row.start : row.stop] for image in images]
    total: Tensor | None = None
    for column in across:
        right = tile - (column.stop - column.start) if width > tile else 0
        asked = _batch([_tile(one, column, below, right) for one in rows])
        for member, share in members:
            said = model.answer({name: view(member, asked, name) for name in model.tta})
            if total is None:
                total = said.new_zeros((*said.shape[:2], length, width))
            said = said[..., :length, : column.stop - column.start]
            weight = torch.from_numpy(row.weight[:, None] * column.weight * np.float32(share))
            total[..., column.start : column.stop].add_(said * weight.to(said.device))
    assert total is not None
    return total


def _tile(rows: Pixels, column: Window, below: int, right: int) -> Pixels:
    """A tile, mirrored at the right and below where the image ends before it does."""
    part = rows[:, column.start : column.stop]
    if not below and not right:
        return np.ascontiguousarray(part)
    part = part if part.dtype == np.uint8 else part.astype(np.float32)
    return by_fours(
        lambda bands: cv2.copyMakeBorder(bands, 0, below, 0, right, cv2.BORDER_REFLECT_101), part
    )
